"""Folders of image files written here by Pillow: own sets and the published Tiny ImageNet layout."""

import numpy as np
import pytest
import torch
from PIL import Image

from robustprune.data import InMemorySplit, StreamedSplit, load_data
from robustprune.data.streaming import read_image
from robustprune.errors import DataError, DataWarning


def picture(seed, mode="RGB", size=(10, 8)):
    """A random picture of (height, width) in a mode of Pillow."""
    shape = (*size, 3) if mode == "RGB" else size
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8))


def write_classes(folder, names=("cat", "dog"), count=4, suffix=".png", **options):
    for order, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture(100 * order + number, **options).save(folder / name / f"{number}{suffix}")


def test_train_and_test_folders(tmp_path):
    write_classes(tmp_path / "train", names=("dog", "cat", "ape"), count=5)
    write_classes(tmp_path / "test", names=("dog", "cat"), count=2)
    (tmp_path / "test" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "test" / "cat" / "._0.png").write_bytes(b"what an archiver left")
    with pytest.warns(DataWarning, match="1 of 3 classes have no test image: 'ape'"):
        data = load_data(f"imagefolder:{tmp_path}", validation_fraction=0.2)
    assert data.classes == ("ape", "cat", "dog")
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 12, "val": 3, "test": 4}
    assert isinstance(data.test, InMemorySplit)
    assert data.test.labels.tolist() == [1, 1, 2, 2]
    expected = np.asarray(Image.open(tmp_path / "test" / "dog" / "1.png"))
    np.testing.assert_array_equal(data.test.images[3].permute(1, 2, 0).numpy(), expected)
    assert (data.channels, data.image_size, data.flips) == (3, (10, 8), True)


def test_val_is_the_test_split_when_there_is_no_other(tmp_path):
    write_classes(tmp_path / "train", count=10)
    write_classes(tmp_path / "val", count=3)
    with pytest.warns(DataWarning, match="val taken as the test split"):
        data = load_data(f"imagefolder:{tmp_path}")
    assert len(data.test) == 6
    assert len(data.val) == 2
    assert "val is the test split" in data.provenance["layout"]


def test_val_is_the_validation_split_beside_a_test_folder(tmp_path):
    for name, count in (("train", 6), ("val", 3), ("test", 2)):
        write_classes(tmp_path / name, count=count)
    data = load_data(f"imagefolder:{tmp_path}")
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 12, "val": 6, "test": 4}
    assert data.provenance["validation"] == "shipped with the set"


def test_class_folders_alone_are_a_test_set(tmp_path):
    write_classes(tmp_path, names=("b", "a"), count=3)
    data = load_data(f"imagefolder:{tmp_path}")
    assert set(data.splits()) == {"test"}
    assert data.classes == ("a", "b")
    assert "everything is the test split" in data.provenance["layout"]


@pytest.mark.parametrize(("modes", "channels"), [(["L", "L"], 1), (["L", "RGB"], 3), (["RGB", "RGB"], 3)])
def test_channels_follow_the_files(tmp_path, modes, channels):
    for number, mode in enumerate(modes):
        (tmp_path / f"class{number}").mkdir()
        picture(number, mode).save(tmp_path / f"class{number}" / "0.png")
    data = load_data(f"imagefolder:{tmp_path}")
    assert data.channels == channels


def test_mixed_sizes_need_an_image_size(tmp_path):
    write_classes(tmp_path, names=("a",), count=2, size=(10, 8))
    write_classes(tmp_path, names=("b",), count=2, size=(12, 9))
    with pytest.raises(DataError, match=r"0\.png \(10x8\) and .*0\.png \(12x9\); give an image size"):
        load_data(f"imagefolder:{tmp_path}")
    data = load_data(f"imagefolder:{tmp_path}", image_size=16)
    assert data.image_size == (16, 16)
    assert data.provenance["resized_from"] == "mixed"


def test_streaming_gives_the_same_images_as_memory(tmp_path):
    write_classes(tmp_path / "train", count=12, suffix=".jpg")
    write_classes(tmp_path / "test", count=3, suffix=".jpg")
    options = {"image_size": 12, "channels": 1, "train_limit": 10, "seed": 4}
    held = load_data(f"imagefolder:{tmp_path}", stream=False, **options)
    streamed = load_data(f"imagefolder:{tmp_path}", stream=True, workers=1, **options)
    for name, split in held.splits().items():
        assert isinstance(streamed.require(name), StreamedSplit)
        assert torch.equal(streamed.require(name).images, split.images)
        assert torch.equal(streamed.require(name).labels, split.labels)
    assert (held.mean, held.std) == (streamed.mean, streamed.std)
    assert (held.provenance["streamed"], streamed.provenance["streamed"]) == (False, True)


def test_sets_too_large_for_memory_are_streamed(tmp_path, monkeypatch):
    write_classes(tmp_path, count=4)
    monkeypatch.setattr("robustprune.data.load.IN_MEMORY_BYTES", 8 * 3 * 10 * 8 - 1)
    assert load_data(f"imagefolder:{tmp_path}").provenance["streamed"]
    assert not load_data(f"imagefolder:{tmp_path}", stream=False).provenance["streamed"]
    monkeypatch.setattr("robustprune.data.load.IN_MEMORY_BYTES", 8 * 3 * 10 * 8)
    assert not load_data(f"imagefolder:{tmp_path}").provenance["streamed"]


def test_statistics_of_a_large_streamed_set_come_from_a_sample(tmp_path, monkeypatch):
    write_classes(tmp_path, count=10)
    monkeypatch.setattr("robustprune.data.load._STATISTICS_SAMPLE", 8)
    data = load_data(f"imagefolder:{tmp_path}", stream=True)
    assert data.provenance["statistics_from"] == "8 of 20 test images"
    whole = load_data(f"imagefolder:{tmp_path}", stream=False)
    assert data.mean == pytest.approx(whole.mean, abs=0.05)


def test_folders_that_hold_no_set(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        load_data(f"imagefolder:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match="holds no class folders"):
        load_data(f"imagefolder:{tmp_path}")
    write_classes(tmp_path / "train")
    (tmp_path / "train" / "eel").mkdir()
    with pytest.raises(DataError, match="eel holds no image files"):
        load_data(f"imagefolder:{tmp_path}")
    (tmp_path / "train" / "eel").rmdir()
    write_classes(tmp_path / "test", names=("fox",))
    with pytest.raises(DataError, match="the test folder has class 'fox'"):
        load_data(f"imagefolder:{tmp_path}")


def test_a_corrupt_jpeg_is_named(tmp_path):
    write_classes(tmp_path, count=3, suffix=".jpg", size=(64, 64))
    damaged = tmp_path / "dog" / "1.jpg"
    damaged.write_bytes(damaged.read_bytes()[:700])
    with pytest.raises(DataError, match=r"dog.1\.jpg is a damaged image file"):
        load_data(f"imagefolder:{tmp_path}")
    damaged.write_bytes(b"\xff\xd8 not a jpeg")
    with pytest.raises(DataError, match=r"dog.1\.jpg cannot be read as an image"):
        load_data(f"imagefolder:{tmp_path}")


def test_sixteen_bit_images_are_refused_rather_than_clipped(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(tmp_path / "a" / "0.png")
    with pytest.raises(DataError, match=r"0\.png has more than 8 bits"):
        load_data(f"imagefolder:{tmp_path}")


def test_palettes_and_transparency_become_plain_colour(tmp_path):
    colours = picture(3)
    with_palette = colours.quantize(16)
    with_palette.info["transparency"] = bytes([0, 128, 255])
    with_palette.save(tmp_path / "palette.png", transparency=bytes([0, 128, 255]))
    transparent = colours.copy()
    transparent.putalpha(100)
    transparent.save(tmp_path / "alpha.png")
    expected = np.asarray(colours.quantize(16).convert("RGB"))
    palette_pixels = read_image(tmp_path / "palette.png", 3).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(palette_pixels, expected)
    alpha_pixels = read_image(tmp_path / "alpha.png", 3).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(alpha_pixels, np.asarray(colours))


@pytest.fixture
def tiny_imagenet(tmp_path):
    folder = tmp_path / "tiny-imagenet-200"
    names = ["n02124075", "n01443537", "n04067472"]
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(names) + "\n")
    for order, name in enumerate(names):
        images = folder / "train" / name / "images"
        images.mkdir(parents=True)
        (folder / "train" / name / f"{name}_boxes.txt").write_text("")
        for number in range(10):
            mode = "L" if number == 0 else "RGB"  # as published: some are grey
            picture(order * 50 + number, mode, size=(64, 64)).save(images / f"{name}_{number}.JPEG")
    lines = []
    for number in range(6):
        picture(900 + number, size=(64, 64)).save(folder / "val" / "images" / f"val_{number}.JPEG")
        lines.append(f"val_{number}.JPEG\t{names[number % 3]}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return folder


def test_tiny_imagenet_is_read_as_published(tiny_imagenet):
    data = load_data("tiny-imagenet", root=tiny_imagenet.parent)
    assert data.classes == ("n01443537", "n02124075", "n04067472")
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 27, "val": 3, "test": 6}
    assert data.test.labels.tolist() == [1, 0, 2, 1, 0, 2]
    assert data.test.shape == (3, 64, 64)
    expected = np.asarray(Image.open(tiny_imagenet / "val" / "images" / "val_4.JPEG"))
    np.testing.assert_array_equal(data.test.images[4].permute(1, 2, 0).numpy(), expected)
    assert "validation images are the test split" in data.provenance["layout"]


def test_tiny_imagenet_with_pieces_missing(tiny_imagenet):
    annotations = tiny_imagenet / "val" / "val_annotations.txt"
    annotations.write_text("val_0.JPEG\tn99999999\t0\t0\t63\t63\n")
    with pytest.raises(DataError, match="n99999999"):
        load_data("tiny-imagenet", root=tiny_imagenet)
    annotations.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="unpack it again"):
        load_data("tiny-imagenet", root=tiny_imagenet)
    annotations.write_text("")
    with pytest.raises(DataError, match="test split has no images"):
        load_data("tiny-imagenet", root=tiny_imagenet)
