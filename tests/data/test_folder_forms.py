"""Folders of images as people have them: other names of splits, hidden and linked folders, EXIF, odd formats and names.

Each is compared with the same images in the plain form, or with what Pillow's own functions give.
"""

from __future__ import annotations

import os
import shutil
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from robustprune.data import ImageData, load_data
from robustprune.data.image_files import read_image
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


NAMES = {
    "train": [
        "train",
        "Train",
        "TRAIN",
        "training",
        "Training_Set",
        "train_images",
        "trainset",
        "train2017",
        "seg_train",
    ],
    "val": ["val", "valid", "Validation", "dev", "val_set", "VALIDATION"],
    "test": ["test", "Testing", "eval", "evaluation", "test-data", "TEST"],
}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(*(st.sampled_from(NAMES[split]) for split in ("train", "val", "test")), st.booleans())
def test_splits_by_any_usual_name_are_those_splits(
    tmp_path: Path, train: str, val: str, test: str, with_val: bool
) -> None:
    shutil.rmtree(tmp_path)
    plain, own = ("train", "test"), (train, test)
    if with_val:
        plain, own = ("train", "val", "test"), (train, val, test)
    expected = load(write_set(tmp_path / "plain", plain))
    write_set(tmp_path / "own", own)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_same(load(tmp_path / "own"), expected)
    said = "".join(str(each.message) for each in caught)
    assert len(caught) == (own != plain)
    for name, usual in zip(own, plain, strict=True):
        assert (f"taken as the {usual} split: {name}" in said) == (name != usual)


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


@pytest.mark.parametrize("parts", [("fold1", "fold2"), ("learning", "holdout"), ("photos",)])
def test_folders_of_class_folders_are_no_classes(tmp_path: Path, parts: tuple[str, ...]) -> None:
    write_set(tmp_path, parts)
    with pytest.raises(DataError, match=r"no images but folders of the same names \(a, b\)"):
        load(tmp_path)


def test_a_folder_twice_too_deep_or_too_high_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path / "seg_train", ("seg_train",))
    with pytest.raises(DataError, match="folders of the same names"):
        load(tmp_path)
    with pytest.raises(DataError, match="3 images: it may be one folder too deep"):
        load(tmp_path / "seg_train" / "seg_train" / "a")


def test_splits_of_images_without_classes_are_no_classes(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        picture(0).save(tmp_path / name / "0.png")
    with pytest.raises(
        DataError, match="only test and train, which are called as splits are and hold no class folders"
    ):
        load(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="pipes have names on POSIX only")
def test_pipes_are_left_out_rather_than_waited_for(tmp_path: Path) -> None:
    folder = write_set(tmp_path)
    for name in ("0", "pipe.png"):
        os.mkfifo(folder / "train" / "a" / name)
    with pytest.warns(DataWarning, match="no ordinary files: train/a/.* and 1 more"):
        assert len(load(folder).require("train")) == 6


def test_files_that_are_read_twice_through_links_are_said(tmp_path: Path) -> None:
    folder = write_set(tmp_path, ("train",))
    (folder / "test").symlink_to("train")
    (folder / "train" / "c").symlink_to("a")
    with pytest.warns(DataWarning) as caught:
        load(folder)
    said = str(caught[0].message)
    assert "the same files as in the train split: test/a/0.png and 8 more" in said
    assert "the same files as in another class: train/c/0.png and 2 more" in said


HIDDEN = [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".Trash-1000"]


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("place", [".", "train", "train/a"])
def test_images_in_hidden_folders_are_left_out_and_said(tmp_path: Path, hidden: str, place: str) -> None:
    expected = load(write_set(tmp_path / "plain"))
    folder = write_set(tmp_path / "own")
    (folder / place / hidden).mkdir()
    picture(9).save(folder / place / hidden / "0-checkpoint.png")
    with pytest.warns(DataWarning, match=f"left out, as their folder is hidden: .*{hidden}/0-checkpoint.png"):
        found = load(folder)
    assert_same(found, expected)


def test_what_is_left_out_of_a_set_is_said_in_one_line(tmp_path: Path) -> None:
    expected = load(write_set(tmp_path / "plain"))
    folder = write_set(tmp_path / "own")
    picture(1).save(folder / "train" / "a" / ".hidden.png")
    picture(1).save(folder / "train" / "loose.png")
    picture(1).save(folder / "loose.jpg")
    (folder / "train" / "a" / "x.heic").write_bytes(b"something")
    shutil.copy(folder / "train" / "a" / "0.png", folder / "train" / "a" / "without_suffix")
    (folder / "train" / "a" / "gone").symlink_to("nowhere")
    (folder / "train" / "c").symlink_to("nowhere")
    write_set(folder, ("extra",))
    with pytest.warns(DataWarning) as caught:
        found = load(folder)
    assert_same(found, expected)
    assert len(caught) == 1
    said = str(caught[0].message)
    assert "\n" not in said
    for words in (
        "hidden: train/a/.hidden.png",
        "in no class folder: loose.jpg and 1 more",
        "format are not read: train/a/x.heic",
        "do not end as those of images: train/a/without_suffix",
        "lead nowhere: train/a/gone and 1 more",
        "beside the folders of the splits: extra",
    ):
        assert words in said


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
    (own / "train" / "all").symlink_to(own / "train")
    with pytest.warns(DataWarning) as caught:
        found = load(own)
    said = str(caught[0].message)
    assert "the same folder is read already: train/a/loop and 1 more" in said
    assert "lead in a circle: train/all" in said
    assert "counted in the class whose folder holds their folder: train/a/more/m0.png and 1 more" in said
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
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            data = load(tmp_path, stream=stream)
        assert data.image_size == expected.shape[:2]
        np.testing.assert_array_equal(data.require("test").images[0].permute(1, 2, 0).numpy(), expected)
        said = "".join(str(each.message) for each in caught)
        assert ("turned, as their EXIF orientation says" in said) == (orientation > 1)


def test_what_a_file_loses_is_said(tmp_path: Path) -> None:
    colours = picture(0)
    alpha = colours.copy()
    alpha.putalpha(100)
    folder = tmp_path / "a"
    folder.mkdir()
    alpha.save(folder / "alpha.PNG")
    colours.convert("CMYK").save(folder / "print.JPG")
    frames = [picture(number).quantize(16) for number in (1, 2)]
    frames[0].save(folder / "moves.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(DataWarning) as caught:
        data = load(tmp_path)
    said = str(caught[0].message)
    assert "transparency dropped: a/alpha.PNG" in said
    assert "CMYK converted to RGB: a/print.JPG" in said
    assert "only the first of several images in the file taken: a/moves.gif" in said
    first = np.asarray(frames[0].convert("RGB"))
    np.testing.assert_array_equal(data.require("test").images[1].permute(1, 2, 0).numpy(), first)


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


@pytest.mark.parametrize("name", ["café", "Ångström", "한국", "ñandú"])
def test_one_name_in_two_normal_forms_is_one_class(tmp_path: Path, name: str) -> None:
    write_set(tmp_path)
    (tmp_path / "train" / "a").rename(tmp_path / "train" / unicodedata.normalize("NFC", name))
    (tmp_path / "test" / "a").rename(tmp_path / "test" / unicodedata.normalize("NFD", name))
    data = load(tmp_path)
    assert data.classes == tuple(sorted(["b", unicodedata.normalize("NFC", name)]))
    assert len(data.require("test").labels.unique()) == 2
    other = tmp_path / "train" / unicodedata.normalize("NFD", name)
    other.mkdir()
    picture(0).save(other / "0.png")
    with pytest.raises(DataError, match="two folders of the class"):
        load(tmp_path)


def test_classes_alike_or_absent_are_said(tmp_path: Path) -> None:
    folder = write_set(tmp_path, classes="abB")
    shutil.rmtree(folder / "test" / "a")
    with pytest.warns(DataWarning) as caught:
        load(folder)
    assert "kept apart that differ only in capitals or blanks: 'B', 'b'" in str(caught[0].message)
    assert "1 of 3 classes have no test image: 'a'" in str(caught[1].message)
    shutil.rmtree(folder / "train" / "b")
    with pytest.raises(DataError, match=r"test folder has class 'b', which the train folder has not. Did you mean 'B'"):
        load(folder)


def test_one_class_is_refused_and_may_be_too_deep(tmp_path: Path) -> None:
    write_set(tmp_path, classes="a")
    with pytest.raises(DataError, match=r"only one class, 'a'.*one folder too deep"):
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
    with pytest.warns(DataWarning, match=r"bytes that are no UTF-8: train/c\\xe9 and 1 more"):
        found = load(folder)
    with pytest.warns(DataWarning):
        streamed = load(folder, stream=True)
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
