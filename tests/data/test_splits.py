"""What holds for any split, checked on both kinds over the same pictures."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from robustprune.data import InMemorySplit, Split, StreamedSplit
from robustprune.errors import DataError

COUNT = 11


@pytest.fixture
def pixels():
    return torch.from_numpy(np.random.default_rng(0).integers(256, size=(COUNT, 3, 8, 10), dtype=np.uint8))


@pytest.fixture
def labels():
    return torch.arange(COUNT) % 3


@pytest.fixture
def streamed(tmp_path, pixels, labels):
    paths = tuple(tmp_path / f"{number:02}.png" for number in range(COUNT))
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return StreamedSplit(paths, labels, channels=3, image_size=(8, 10), folder=tmp_path)


@pytest.fixture(params=["memory", "disk", "disk with workers"])
def split(request, pixels, labels, streamed):
    if request.param == "memory":
        return InMemorySplit(pixels, labels)
    return streamed if request.param == "disk" else StreamedSplit(**{**vars(streamed), "workers": 2})


def test_a_split_keeps_the_contract(split, pixels, labels):
    assert isinstance(split, Split)
    assert len(split) == COUNT
    assert split.shape == (3, 8, 10)
    assert torch.equal(split.images, pixels)
    assert torch.equal(split.labels, labels)
    assert str(COUNT) in repr(split)


def test_take_follows_the_indices(split, pixels):
    indices = torch.tensor([4, 0, 4, 10])
    assert torch.equal(split.take(indices), pixels[indices])


@pytest.mark.parametrize("ordered", [False, True])
def test_batches_cover_the_order_and_say_where_they_are_from(split, pixels, labels, ordered):
    order = torch.tensor([9, 1, 1, 7, 3]) if ordered else None
    positions = order if ordered else torch.arange(COUNT)
    batches = list(split.batches(4, order=order))
    assert [len(batch.images) for batch in batches] == ([4, 1] if ordered else [4, 4, 3])
    assert torch.equal(torch.cat([batch.indices for batch in batches]), positions)
    assert torch.equal(torch.cat([batch.images for batch in batches]), pixels[positions])
    assert torch.equal(torch.cat([batch.labels for batch in batches]), labels[positions])


def test_a_subset_is_numbered_from_zero(split, pixels, labels):
    part = split.subset(torch.tensor([8, 2, 5]))
    assert torch.equal(part.images, pixels[[8, 2, 5]])
    assert torch.equal(part.labels, labels[[8, 2, 5]])
    assert part.subset(torch.tensor([2])).labels.tolist() == [labels[5]]


def test_reading_leaves_the_global_random_numbers_alone(split):
    before = torch.get_rng_state()
    list(split.batches(4))
    split.take(torch.tensor([1, 2]))
    assert torch.equal(before, torch.get_rng_state())


def test_the_fingerprint_depends_on_content_and_order(split):
    everything = torch.arange(COUNT)
    assert split.subset(everything).fingerprint() == split.fingerprint()
    assert split.subset(everything.flip(0)).fingerprint() != split.fingerprint()
    assert len(split.fingerprint()) == 64


def test_a_streamed_set_has_the_same_fingerprint_in_another_folder(streamed, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in streamed.paths:
        (elsewhere / path.name).write_bytes(path.read_bytes())
    paths = tuple(elsewhere / path.name for path in streamed.paths)
    moved = StreamedSplit(paths, streamed.labels, 3, (8, 10), folder=elsewhere)
    assert moved.fingerprint() == streamed.fingerprint()


def test_a_streamed_split_converts_and_resizes_as_it_reads(streamed):
    grey = StreamedSplit(streamed.paths, streamed.labels, 1, (16, 16), streamed.folder)
    picture = Image.open(streamed.paths[3]).convert("L").resize((16, 16), Image.Resampling.BILINEAR)
    result = grey.take(torch.tensor([3]))
    assert result.shape == (1, 1, 16, 16)
    assert np.abs(result[0, 0].numpy().astype(int) - np.asarray(picture).astype(int)).max() <= 1


def test_many_files_are_taken_in_several_reads(streamed, pixels):
    indices = torch.arange(600) % COUNT
    with_workers = StreamedSplit(**{**vars(streamed), "workers": 1})
    assert torch.equal(with_workers.take(indices), pixels[indices])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_named(streamed, workers):
    damaged = streamed.paths[6]
    damaged.write_bytes(damaged.read_bytes()[:60])
    split = StreamedSplit(**{**vars(streamed), "workers": workers})
    with pytest.raises(DataError) as caught:
        list(split.batches(4))
    assert str(damaged) in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_vanished_file_is_named(streamed):
    streamed.paths[2].unlink()
    with pytest.raises(DataError, match=r"02\.png"):
        streamed.take(torch.tensor([2]))
    with pytest.raises(DataError, match=r"02\.png"):
        streamed.fingerprint()


def test_a_streamed_split_can_be_sent_to_a_process(streamed, pixels):
    assert torch.equal(pickle.loads(pickle.dumps(streamed)).images, pixels)


def test_moving_to_where_it_is_costs_nothing(pixels, labels):
    split = InMemorySplit(pixels, labels)
    assert split.to("cpu") is split
    assert split.to("meta").images.device.type == "meta"


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 4, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2)),
    ],
)
def test_other_types_and_shapes_are_refused(images, labels):
    with pytest.raises(DataError, match="must be"):
        InMemorySplit(images, labels)
