"""What programs hold as labelled images becomes the image set that it is, or an error that says what to change."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

import robustprune as rp
from robustprune.data import ImageData, InMemorySplit, Split

K = 4
PIXELS = torch.randint(256, (24, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % K
FLOATS = PIXELS.float() / 255
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
NORMALIZED = (FLOATS - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
NAMES = ("ant", "bee", "cat", "dog")


class Pictures(Dataset):
    """As torchvision's are: PIL images and numbers, and what the classes are called."""

    classes = NAMES

    def __init__(self, images=PIXELS, labels=LABELS):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        pixels = self.images[index].permute(1, 2, 0).numpy()
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), int(self.labels[index])


class ClassLabel:
    names = NAMES


class HuggingFaceLike:
    """Items are mappings, and features say what the classes are called."""

    def __init__(self):
        self.features = {"image": object(), "label": ClassLabel()}

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, index):
        if index >= len(LABELS):
            raise IndexError(index)
        image, label = Pictures()[index]
        return {"image": image, "label": label}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(FLOATS, LABELS.tolist(), strict=True))


def mappings(batch):
    images, labels = default_collate(batch)
    return {"pixel_values": images, "labels": labels}


ONE_HOT = torch.nn.functional.one_hot(LABELS)
FORMS = {
    "uint8 tensors": (PIXELS, LABELS),
    "float tensors": (FLOATS, LABELS),
    "double arrays": (PIXELS.numpy() / 255, LABELS.numpy()),
    "half": (FLOATS.half(), LABELS),
    "list of two": [PIXELS, LABELS],
    "channels last": (PIXELS.permute(0, 2, 3, 1).numpy(), LABELS.tolist()),
    "negative strides": (PIXELS.numpy()[::-1][::-1], LABELS.numpy()[::-1][::-1]),
    "list of images": (list(PIXELS), LABELS),
    "one-hot": (PIXELS, ONE_HOT),
    "one-hot floats": (PIXELS, ONE_HOT.float()),
    "column": (PIXELS, LABELS[:, None]),
    "bytes": (PIXELS, LABELS.byte()),
    "texts": (PIXELS, [NAMES[label] for label in LABELS]),
    "array of texts": (PIXELS, np.array(NAMES)[LABELS]),
    "array of objects": (PIXELS, np.array(NAMES, dtype=object)[LABELS]),
    "mapping": {"image": PIXELS, "label": LABELS},
    "TensorDataset": TensorDataset(PIXELS, LABELS),
    "samples": list(zip(FLOATS, LABELS.tolist(), strict=True)),
    "one-hot samples": list(zip(FLOATS, ONE_HOT, strict=True)),
    "text samples": [(image, NAMES[label]) for image, label in zip(PIXELS, LABELS, strict=True)],
    "loader": DataLoader(TensorDataset(FLOATS, LABELS), batch_size=7),
    "loader of one": DataLoader(TensorDataset(PIXELS, LABELS), batch_size=1),
    "loader of texts": DataLoader([(im, NAMES[la]) for im, la in zip(PIXELS, LABELS, strict=True)], batch_size=5),
    "loader of mappings": DataLoader(TensorDataset(FLOATS, LABELS), batch_size=5, collate_fn=mappings),
    "loader without batches": DataLoader(TensorDataset(FLOATS, LABELS), batch_size=None),
    "loader of whole batches": DataLoader(list(zip(FLOATS.split(9), LABELS.split(9), strict=True)), batch_size=None),
    "loader of a stream": DataLoader(Stream(), batch_size=5),
    "stream": Stream(),
    "generator of batches": zip(FLOATS.split(5), LABELS.split(5), strict=True),
    "torchvision's": Pictures(),
    "subset": Subset(Pictures(), range(24)),
    "Hugging Face's": HuggingFaceLike(),
    "split": InMemorySplit(PIXELS, LABELS),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_one_set_is_that_set(form):
    expected = rp.as_data((PIXELS, LABELS))
    found = rp.as_data(FORMS[form])
    assert torch.equal(found.train.images, PIXELS)
    assert torch.equal(found.train.labels, LABELS)
    assert found.train.fingerprint() == expected.train.fingerprint()
    assert found.identity == expected.identity
    assert found.classes in (NAMES, tuple("0123"))


def test_normalization_is_undone_bit_for_bit():
    for images in (NORMALIZED, NORMALIZED.double()):
        found = rp.as_data(train=(images, LABELS), mean=MEAN, std=torch.tensor(STD))
        assert torch.equal(found.train.images, PIXELS)


def test_an_image_set_is_returned_as_it_is(digits):
    assert rp.as_data(digits) is digits
    assert rp.as_data(digits, "test") is digits
    assert torch.equal(rp.as_data(test=digits).test.images, digits.test.images)
    named = dataclasses.replace(digits, classes=tuple("abcdefghij"))
    assert rp.as_data(test=named).classes == named.classes
    with pytest.raises(rp.DataError, match="taken as it is"):
        rp.as_data(digits, mean=0.5, std=0.5)


def test_grey_images_and_those_of_pil_without_colour():
    grey = PIXELS[:, :1]
    for images in (grey, grey[:, 0], grey.permute(0, 2, 3, 1), [Image.fromarray(each.numpy()) for each in grey[:, 0]]):
        assert torch.equal(rp.as_data((images, LABELS)).train.images, grey)
    black = [(Image.new("1", (4, 4), label % 2), label) for label in (0, 1)]
    assert rp.as_data(black, "test").test.images.flatten(1).unique(dim=1).tolist() == [[0], [255]]
    red = Image.new("RGB", (4, 4), "red")
    other = [(image, 0) for image in (red, red.convert("RGBA"), red.convert("CMYK"), red.quantize(2))]
    assert (rp.as_data(other, "test").test.images[:, :, 0, 0] == torch.tensor([255, 0, 0])).all()


def test_grey_among_colour_becomes_colour_and_is_told():
    mixed = [(Image.new("L", (4, 4), 9), 0), (Image.new("RGB", (4, 4), (1, 2, 3)), 1)]
    with pytest.warns(rp.DataWarning, match="1 grey images among colour"):
        found = rp.as_data(mixed)
    assert found.train.images[:, :, 0, 0].tolist() == [[9, 9, 9], [1, 2, 3]]


def test_a_shuffled_loader_is_read_in_the_order_of_one_pass():
    def loader():
        return DataLoader(TensorDataset(FLOATS, torch.arange(24)), batch_size=5, shuffle=True)

    before = torch.get_rng_state()
    first, again, other = (rp.as_data(loader(), seed=seed).train for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.images, PIXELS[first.labels])
    assert first.labels.tolist() != list(range(24))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_what_is_rounded_is_told_once_and_is_the_nearest():
    images = torch.rand(24, 3, 6, 5)
    with pytest.warns(rp.DataWarning, match="were rounded") as told:
        found = rp.as_data(DataLoader(TensorDataset(images, LABELS), batch_size=5))
    assert len(told) == 1
    assert (found.train.images / 255 - images).abs().max() <= 0.5001 / 255


def test_classes_are_named_by_whoever_knows():
    assert rp.as_data(Pictures()).classes == NAMES
    assert rp.as_data(HuggingFaceLike()).classes == NAMES
    assert rp.as_data(DataLoader(Subset(FORMS["torchvision's"], range(8)), 4, collate_fn=list_of)).classes == NAMES
    assert rp.as_data((PIXELS, LABELS), classes=["a", "b", "c", "d"]).classes == ("a", "b", "c", "d")
    with pytest.warns(rp.DataWarning, match="2 of 6 classes have no test image"):
        assert rp.as_data((PIXELS, LABELS), "test", classes=6).num_classes == 6
    turned = Pictures()
    turned.target_transform = lambda label: K - 1 - label
    assert rp.as_data(turned).classes == tuple("0123")


def list_of(batch):
    return [image for image, _ in batch], [label for _, label in batch]


def test_augmentation_is_told(monkeypatch):
    class Augmented(Pictures):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return (image.rotate(180) if torch.rand(()) < 0.5 else image), label

    with pytest.warns(rp.DataWarning, match="draw at random"):
        rp.as_data(Augmented())
    monkeypatch.setattr("robustprune.data.given.IN_MEMORY_BYTES", 0)
    with pytest.raises(rp.DataError, match="too large to keep"):
        rp.as_data(Augmented())


def test_images_a_loader_leaves_out_or_repeats_are_told():
    with pytest.warns(rp.DataWarning, match="gave 20 of 24 images"):
        rp.as_data(DataLoader(TensorDataset(PIXELS, LABELS), batch_size=5, drop_last=True))
    weighted = torch.utils.data.WeightedRandomSampler([1.0] * 24, 24)
    with pytest.warns(rp.DataWarning, match="with replacement"):
        rp.as_data(DataLoader(TensorDataset(PIXELS, LABELS), batch_size=5, sampler=weighted))


def test_the_users_tensor_is_not_shared():
    mine = PIXELS.clone()
    found = rp.as_data((mine, LABELS))
    mine.zero_()
    assert torch.equal(found.train.images, PIXELS)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((NORMALIZED, LABELS), r"run from -2.* normalized: .*as_data\(…, mean=, std=\).*rp.normalized\(model"),
        ((FLOATS * 2, LABELS), "normalized"),
        ((PIXELS.float(), LABELS), "0 to 255, not within .*divide them by 255"),
        ((FLOATS / 255, LABELS), "divided by 255 twice"),
        (((PIXELS > 99).byte(), LABELS), "masks of 0 and 1"),
        ((FLOATS * 1.1 - 0.05, LABELS), "If resizing overshot, clamp"),
        ((FLOATS / 0, LABELS), "not finite"),
        ((PIXELS.long(), LABELS), "int64 may be on any scale"),
        ((PIXELS[:, :2], LABELS), r"C of 1 or 3, got \(24, 2, 6, 5\)"),
        ((PIXELS[..., :3], LABELS), "second or the last axis"),
        ((PIXELS.flatten(1), LABELS), r"got \(24, 90\)"),
        ((PIXELS, LABELS[1:]), "24 images came with 23 labels"),
        ((PIXELS, LABELS.float()), "labels are float32"),
        ((PIXELS, LABELS - 1), "run from -1 to 2; classes count from 0"),
        ((PIXELS, LABELS + 1), "of the 5 classes from 0 to 4, 1 would have no image"),
        ((PIXELS, ONE_HOT * 2), "not one-hot"),
        ((PIXELS, ["a", 1] * 12), "some labels are texts"),
        ((PIXELS, [None] * 24), "labels must be real numbers"),
        ((PIXELS, [torch.eye(24)[place] for place in range(24)]), "list of arrays"),
        ((PIXELS[:0], LABELS[:0]), "no images"),
        ((PIXELS, LABELS * 0), "all 24 training images are of one class"),
        ([], "there are no images"),
        ([(PIXELS[0], 0), (PIXELS[1, :, :4], 1)], "images are of 2 sizes, such as 6×5 and 4×5"),
        ([(PIXELS[0], 0, 7)], "got 3 things"),
        ([PIXELS[0]], "got a Tensor"),
        ({"image": PIXELS, "fine": LABELS, "coarse": LABELS}, "none of the keys image, fine, coarse"),
        ({"image": PIXELS, "x": PIXELS, "label": LABELS}, "more than one of the keys"),
        ([(Image.new("I;16", (4, 4)), 0)], "more than 8 bits"),
        (PIXELS, "expected a DataLoader, a Dataset, or a pair"),
        ("cifar10", "expected a DataLoader, a Dataset, or a pair"),
        (7, "expected a DataLoader, a Dataset, or a pair"),
        (DataLoader([([[0.0, 1.0], [1.0, 0.5]], 0)] * 2, batch_size=2), "lists of arrays"),
        (DataLoader([(PIXELS[0], [1, 0]), (PIXELS[1], [0, 1])], batch_size=2), "list of arrays"),
    ],
)
def test_what_is_wrong_is_refused_with_what_mends_it(given, says):
    with pytest.raises(rp.DataError, match=says) as refused:
        rp.as_data(given)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "there are no images"),
        ({"given": (PIXELS, LABELS), "test": (PIXELS, LABELS)}, "name each split"),
        ({"given": (PIXELS, LABELS), "role": "valid"}, "name each split"),
        ({"train": (PIXELS, LABELS), "name": " "}, "no name for an image set"),
        ({"train": (PIXELS, LABELS), "seed": -1}, "not a whole number"),
        ({"train": (PIXELS, LABELS), "mean": MEAN, "std": STD}, "uint8 images are not normalized"),
        ({"train": (NORMALIZED, LABELS), "mean": MEAN}, "undo no normalization"),
        ({"train": (NORMALIZED, LABELS), "mean": MEAN[:2], "std": STD[:2]}, "of 2 channels, the images have 3"),
        ({"train": (NORMALIZED, LABELS), "mean": (100, 100, 100), "std": (50, 50, 50)}, "divide those of 0 to 255"),
        ({"train": (NORMALIZED, LABELS), "mean": 0.1, "std": 0.1}, "once mean and std are undone"),
        ({"train": (PIXELS, LABELS), "test": (PIXELS, LABELS + 1)}, "labels from 1 to 4"),
        ({"train": (PIXELS, list("abcd") * 6), "test": (PIXELS, list("abcx") * 6)}, "'x' is none of the classes"),
        ({"train": (PIXELS, list("abcd") * 6), "test": (PIXELS, LABELS)}, "texts and those of another numbers"),
        ({"train": (PIXELS, ONE_HOT), "classes": 5}, "one-hot labels are of 4 classes, not 5"),
        ({"train": (PIXELS, LABELS), "classes": 3}, "with 3 classes they must lie in"),
        ({"train": (PIXELS, LABELS), "classes": "abcd"}, "neither the names"),
        ({"train": (PIXELS, LABELS), "classes": ["a", "a", "b", "c"]}, "each of them once"),
        ({"train": Pictures(), "classes": NAMES[::-1]}, "in another order"),
        ({"train": (PIXELS, LABELS), "test": (PIXELS[..., :4], LABELS)}, "different shapes"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, says):
    with pytest.raises(rp.DataError, match=says):
        rp.as_data(**settings)


def test_splits_that_name_their_classes_differently_are_refused():
    other = Pictures()
    other.classes = NAMES[::-1]
    with pytest.raises(rp.DataError, match="name their classes differently"):
        rp.as_data(train=Pictures(), test=other)


def test_what_a_dataset_raises_is_told_with_its_place():
    class Broken(Pictures):
        def __getitem__(self, index):
            if index == 5:
                raise KeyError("photo")
            return super().__getitem__(index)

    with pytest.raises(rp.DataError, match=r"train=: reading item 5 of this Broken failed with KeyError: 'photo'"):
        rp.as_data(Broken())


def test_statistics_are_those_of_the_training_images():
    found: ImageData = rp.as_data(train=(FLOATS, LABELS), test=(FLOATS[:8], LABELS[:8]), name="mine")
    pixels = PIXELS.double() / 255
    assert found.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
    assert found.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist())
    assert (found.name, found.spec, found.flips) == ("mine", {}, False)


@pytest.mark.parametrize("form", ["torchvision's", "TensorDataset", "Hugging Face's", "subset"])
def test_a_dataset_too_large_for_memory_is_read_as_it_is_used(form, monkeypatch):
    held = rp.as_data(FORMS[form])
    monkeypatch.setattr("robustprune.data.given.IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr("robustprune.data.dataset_split._READ_SIZE", 7)
    found = rp.as_data(FORMS[form])
    assert found.provenance == held.provenance | {"streamed": True}
    assert (found.mean, found.std, found.classes) == (held.mean, held.std, held.classes)
    assert isinstance(found.train, Split)
    assert "TensorDataset" in repr(found.train) or form != "TensorDataset"
    order = torch.tensor([5, 0, 23])
    assert torch.equal(found.train.take(order), PIXELS[order])
    some = found.train.subset(order)
    assert some.fingerprint() == held.train.subset(order).fingerprint()
    (batch,) = some.batches(8)
    assert (batch.images.equal(PIXELS[order]), batch.labels.equal(LABELS[order])) == (True, True)
    assert torch.equal(some.images, PIXELS[order])
    assert len(found.train.take(order[:0])) == 0


def test_what_large_datasets_hold_is_checked_as_what_small_ones_do(monkeypatch):
    monkeypatch.setattr("robustprune.data.given.IN_MEMORY_BYTES", 0)
    monkeypatch.setattr("robustprune.data.dataset_split._READ_SIZE", 2)
    found = rp.as_data(TensorDataset(NORMALIZED, LABELS), mean=MEAN, std=STD)
    assert torch.equal(found.train.images, PIXELS)
    assert found.train.fingerprint() == rp.as_data((PIXELS, LABELS)).train.fingerprint()
    with pytest.raises(rp.DataError, match="normalized"):
        rp.as_data(TensorDataset(NORMALIZED, LABELS))
    with pytest.raises(rp.DataError, match="of 2 sizes, such as 6×5 and 6×4"):
        rp.as_data(Items([(PIXELS[place, :, :, : 4 + (place < 8)], place % 2) for place in range(20)]))
    changing = Items([(PIXELS[place], place % 2) for place in range(20)])
    found = rp.as_data(changing)
    changing.samples = changing.samples[:3]
    with pytest.raises(rp.DataError, match="reading item 9 failed with IndexError"):
        found.train.take(torch.tensor([9]))


class Items(Dataset):
    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))],
    ids=["ImageNet", "CIFAR-10"],
)
def test_torchvisions_normalization_is_undone_bit_for_bit_at_every_level(mean, std, kind):
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, -1, -1)
    normalize = torchvision.transforms.Normalize(mean, std)
    # float16 is what an image in float32 is cast to once it is normalized, or before it.
    for given in (normalize(levels.float() / 255).to(kind), normalize((levels.float() / 255).to(kind))):
        found = rp.as_data(train=(given, [0, 1]), mean=mean, std=std)
        assert torch.equal(found.train.images, levels)


def test_texts_without_training_images_say_the_order_that_is_assumed() -> None:
    texts = [NAMES[label] for label in LABELS]
    with pytest.warns(rp.DataWarning, match=r"in this order: .*Give classes="):
        assert rp.as_data(test=(PIXELS, texts)).classes == tuple(sorted(set(texts)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rp.as_data(test=(PIXELS, texts), classes=NAMES).classes == tuple(NAMES)
        rp.as_data(train=(PIXELS, texts), test=(PIXELS, texts))
