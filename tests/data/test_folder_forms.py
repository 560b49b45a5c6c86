"""Folders of images as people have them: other names of splits, hidden and linked folders, EXIF, odd formats and names.

Each is compared with the same images in the plain form, or with what Pillow's own functions give.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from robustprune.data import ImageData, load_data
from robustprune.data.streaming import read_image
from robustprune.errors import DataError, DataWarning


def picture(seed: int, height: int = 10, width: int = 10) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8))


def write_set(folder: Path, parts: tuple[str, ...] = ("train", "test"), classes: str = "ab", count: int = 3) -> Path:
    """Write count images of each class in each part; which ones depends on the part's place, not on its name."""
    for place, part in enumerate(parts):
        for order, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                picture(100 * place + 10 * order + number).save(folder / part / name / f"{number}.png")
    return folder


def load(folder: Path, **options: object) -> ImageData:
    return load_data(f"imagefolder:{folder}", validation_fraction=0, **options)  # type: ignore[arg-type]


def assert_same(found: ImageData, expected: ImageData) -> None:
    assert found.classes == expected.classes
    assert found.splits().keys() == expected.splits().keys()
    for name, split in expected.splits().items():
        assert torch.equal(found.require(name).images, split.images)
        assert torch.equal(found.require(name).labels, split.labels)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("Train", "valid", "TEST"), ("training", "Validation", "eval"), ("TRAIN", "dev", "Testing")],
)
def test_splits_by_any_usual_name_are_those_splits(tmp_path: Path, train: str, val: str, test: str) -> None:
    expected = load(write_set(tmp_path / "plain", ("train", "val", "test")))
    folder = write_set(tmp_path / "own", (train, val, test))
    with pytest.warns(DataWarning, match=f"own: {train} taken as the train split; {val} taken as .*; {test} taken as"):
        assert_same(load(folder), expected)


def test_files_of_two_splits_are_said(tmp_path: Path) -> None:
    folder = write_set(tmp_path, ("train",))
    (folder / "test").symlink_to("train")
    with pytest.warns(DataWarning, match="test/a/0.png of the test split is a file of the train split, too, and so"):
        load(folder)


@pytest.mark.parametrize("pair", [("val", "valid"), ("train", "Train"), ("test", "eval")])
def test_two_folders_for_one_split_are_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    write_set(tmp_path, tuple(dict.fromkeys(("train", "test", *pair))))
    with pytest.raises(DataError, match=f"holds both .*{'.* and .*'.join(sorted(pair))}"):
        load(tmp_path)


def test_a_split_without_classes_beside_others_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, ("train",))
    (tmp_path / "test").mkdir()
    picture(0).save(tmp_path / "test" / "0.png")
    with pytest.raises(DataError, match="test holds no class folders, but 1 images"):
        load(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        (tmp_path / name).mkdir()
        picture(0).save(tmp_path / name / "0.png")
    assert load(tmp_path).classes == ("bus", "train")


@pytest.mark.parametrize("parts", [("fold1", "fold2"), ("train_set", "test_set"), ("photos",)])
def test_folders_of_class_folders_are_no_classes(tmp_path: Path, parts: tuple[str, ...]) -> None:
    write_set(tmp_path, parts)
    with pytest.raises(DataError, match=r"no images but folders of the same names.*call splits train, val and test"):
        load(tmp_path)


def test_a_folder_twice_too_deep_or_too_high_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path / "train", ("train",))
    with pytest.raises(DataError, match="folders of the same names"):
        load(tmp_path)
    with pytest.raises(DataError, match="3 images: it may be one folder too deep"):
        load(tmp_path / "train" / "train" / "a")


def test_splits_of_images_without_classes_are_no_classes(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        picture(0).save(tmp_path / name / "0.png")
    with pytest.raises(DataError, match=r"the splits in .* hold no class folders"):
        load(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="pipes have names on POSIX only")
def test_pipes_are_left_out_rather_than_waited_for(tmp_path: Path) -> None:
    folder = write_set(tmp_path)
    for name in ("0", "pipe.png"):
        os.mkfifo(folder / "train" / "a" / name)
    with pytest.warns(DataWarning, match="train/a/pipe.png left out"):
        assert len(load(folder).require("train")) == 6


HIDDEN = [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".Trash-1000"]


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("place", [".", "train", "train/a"])
def test_images_in_hidden_folders_are_left_out(tmp_path: Path, hidden: str, place: str) -> None:
    expected = load(write_set(tmp_path / "plain"))
    folder = write_set(tmp_path / "own")
    (folder / place / hidden).mkdir()
    picture(9).save(folder / place / hidden / "0-checkpoint.png")
    assert_same(load(folder), expected)


def test_what_is_left_out_of_a_set_is_said_in_one_line(tmp_path: Path) -> None:
    expected = load(write_set(tmp_path / "plain"))
    folder = write_set(tmp_path / "own")
    picture(1).save(folder / "train" / "a" / ".hidden.png")
    (folder / "train" / "a" / "notes.txt").write_text("no image")
    picture(1).save(folder / "train" / "loose.png")
    picture(1).save(folder / "loose.jpg")
    (folder / "train" / "a" / "x.heic").write_bytes(b"something")
    (folder / "train" / "a" / "gone.png").symlink_to("nowhere")
    write_set(folder, ("extra",))
    with pytest.warns(DataWarning, match=r"own: extra and 4 more left out") as caught:
        found = load(folder)
    assert_same(found, expected)
    assert len(caught) == 1


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "plain")
    for number in range(2):
        picture(50 + number).save(folder / "train" / "a" / f"m{number}.png")
    expected = load(folder)
    own = write_set(tmp_path / "own")
    (tmp_path / "store").mkdir()
    for number in range(2):
        shutil.move(folder / "train" / "a" / f"m{number}.png", tmp_path / "store" / f"m{number}.png")
    (own / "train" / "a" / "more").symlink_to(tmp_path / "store")
    (own / "train" / "a" / "loop").symlink_to(own)  # which holds all classes
    (own / "train" / "a" / "twice").symlink_to(tmp_path / "store")
    shutil.move(own / "test", tmp_path / "elsewhere")
    (own / "test").symlink_to(tmp_path / "elsewhere")
    found = load(own)
    assert len(found.require("train")) == len(expected.require("train"))
    rows = [
        sorted(bytes(each) for each in data.require("train").images.flatten(1).numpy()) for data in (found, expected)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_orientation_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / f"0{suffix}"
    picture(0, 8, 12).save(path, exif=exif)
    with Image.open(path) as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_image(path, 3).permute(1, 2, 0).numpy(), expected)
    for stream in (False, True):
        data = load(tmp_path, stream=stream)
        assert data.image_size == expected.shape[:2]
        np.testing.assert_array_equal(data.require("test").images[0].permute(1, 2, 0).numpy(), expected)


def test_of_several_frames_the_first_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    frames = [picture(number).quantize(16) for number in (1, 2)]
    frames[0].save(tmp_path / "a" / "moves.gif", save_all=True, append_images=frames[1:])
    first = np.asarray(frames[0].convert("RGB"))
    np.testing.assert_array_equal(load(tmp_path).require("test").images[0].permute(1, 2, 0).numpy(), first)


def test_deep_colours_are_refused_rather_than_cut(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    with pytest.raises(DataError, match="more than 8 bits"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"text"])
def test_empty_and_cut_files_are_named(tmp_path: Path, content: bytes) -> None:
    write_set(tmp_path)
    (tmp_path / "train" / "b" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"train/b/1\.png cannot be read as an image"):
        load(tmp_path)


def test_classes_absent_from_a_split_are_said(tmp_path: Path) -> None:
    folder = write_set(tmp_path, classes="abB")
    shutil.rmtree(folder / "test" / "a")
    with pytest.warns(DataWarning, match="1 of 3 classes have no test image: 'a'"):
        load(folder)
    shutil.rmtree(folder / "train" / "b")
    with pytest.raises(DataError, match=r"test folder has class 'b', which the train folder has not. Did you mean 'B'"):
        load(folder)


def test_one_class_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, classes="a")
    with pytest.raises(DataError, match="all 3 training images are of one class, 'a'"):
        load(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_no_utf8_can_be_read_streamed_and_written(tmp_path: Path) -> None:
    expected = load(write_set(tmp_path / "plain", classes="ct"))
    folder = write_set(tmp_path / "own", classes="ct")
    for part in ("train", "test"):
        owner = os.fsencode(folder / part / "c")
        for number in range(3):
            os.rename(owner + b"/%d.png" % number, owner + b"/%d\xe9.png" % number)
        os.rename(owner, owner + b"\xe9")
    found, streamed = load(folder), load(folder, stream=True)
    assert found.classes == ("c\\xe9", "t")
    for data in (found, streamed):
        assert torch.equal(data.require("train").images, expected.require("train").images)
        str(data.provenance).encode()
    assert len(streamed.provenance["sha256"]["train"]) == 64
    broken = os.fsencode(folder / "train") + b"/c\xe9/0\xe9.png"
    with open(broken, "wb"):
        pass
    with pytest.raises(DataError, match=r"c\\xe9/0\\xe9\.png cannot be read"):
        load(folder)
