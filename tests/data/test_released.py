"""Published corrupted sets: files with the real names, types and layout, and the rows and labels that come out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustprune.data.released import PUBLISHED_MD5, load_shifted_folder, match_classes, open_released
from robustprune.errors import DataError, DataWarning

CLASSES = tuple("0123456789")


def write_arrays(folder: Path, names: tuple[str, ...], count: int = 40, side: int = 32) -> None:
    """Write arrays in which image i of severity s has the grey level 50·(s − 1) + i."""
    folder.mkdir()
    levels = np.concatenate([50 * severity + np.arange(count) for severity in range(5)]).astype(np.uint8)
    for place, name in enumerate(names):
        images = np.zeros((5 * count, side, side, 3), dtype=np.uint8)
        images[:] = levels[:, None, None, None]
        images[..., 2] = place
        np.save(folder / f"{name}.npy", images)
    np.save(folder / "labels.npy", np.tile(np.arange(count) % 10, 5).astype(np.uint8))


def test_rows_of_a_severity(tmp_path: Path) -> None:
    write_arrays(tmp_path / "CIFAR-10-C", ("fog", "gaussian_noise"))
    found = open_released(tmp_path / "CIFAR-10-C", CLASSES, image_size=(32, 32), channels=3)
    assert found.names == ("fog", "gaussian_noise")
    assert found.is_paired
    for severity in range(1, 6):
        part = found.part("gaussian_noise", severity)
        assert torch.equal(part.labels, torch.arange(40) % 10)
        images = part.take(torch.tensor([39, 0, 7]))
        assert images.shape == (3, 3, 32, 32)
        assert images.dtype == torch.uint8
        expected = 50 * (severity - 1) + torch.tensor([39, 0, 7])
        assert torch.equal(images[:, 0, 0, 0].long(), expected)
        assert (images[:, 2] == 1).all()


def test_the_real_shape_is_mapped_and_not_read(tmp_path: Path) -> None:
    # 150 MB that are a hole in the file: reading a few rows of it takes no memory and no time.
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    whole = np.lib.format.open_memmap(folder / "snow.npy", "w+", np.uint8, (50_000, 32, 32, 3))
    whole[20_003] = 9
    whole.flush()
    np.save(folder / "labels.npy", np.tile(np.arange(10_000) % 10, 5).astype(np.uint8))
    part = open_released(folder, CLASSES, image_size=(32, 32), channels=3).part("snow", 3)
    assert part.labels.shape == (10_000,)
    assert part.take(torch.tensor([2, 3])).sum(dim=(1, 2, 3)).tolist() == [0, 9 * 3072]


def test_other_sizes_and_channels_are_converted(tmp_path: Path) -> None:
    write_arrays(tmp_path / "set", ("fog",))
    part = open_released(tmp_path / "set", CLASSES, image_size=(16, 16), channels=1).part("fog", 2)
    images = part.take(torch.tensor([5]))
    assert images.shape == (1, 1, 16, 16)
    # By hand: luma of (55, 55, 0).
    assert images.unique().tolist() == [round(0.886 * 55)]


def test_grey_arrays_without_channels_and_labels_of_one_severity(tmp_path: Path) -> None:
    np.save(tmp_path / "fog.npy", np.arange(10, dtype=np.uint8).repeat(64).reshape(10, 8, 8))
    np.save(tmp_path / "labels.npy", np.array([3, 4]))
    part = open_released(tmp_path, CLASSES, image_size=(8, 8), channels=1).part("fog", 5)
    assert part.labels.tolist() == [3, 4]
    assert part.take(torch.arange(2))[:, 0, 0, 0].tolist() == [8, 9]


@pytest.mark.parametrize("with_families", [False, True])
def test_image_folders(tmp_path: Path, with_families: bool) -> None:
    # Classes are matched by name: of three classes the folders have two, in another order of numbers.
    for severity in range(1, 6):
        for number, name in enumerate(("n02", "n01")):
            place = tmp_path / ("weather" if with_families else "") / "fog" / str(severity) / name
            place.mkdir(parents=True)
            Image.new("RGB", (12, 12), (10 * severity + number,) * 3).save(place / "val_1.png")
    found = open_released(tmp_path, ("n01", "n02", "n03"), image_size=(12, 12), channels=3)
    assert found.names == ("fog",)
    assert not found.is_paired
    part = found.part("fog", 4)
    assert part.labels.tolist() == [0, 1]
    assert part.take(torch.arange(2))[:, 0, 0, 0].tolist() == [41, 40]
    with pytest.raises(DataError, match="has 2 classes, among them 'n01'"):
        open_released(tmp_path, tuple("abc"), image_size=(12, 12), channels=3).part("fog", 1)
    # One name of two agrees: by order the other class would take its images.
    with pytest.raises(DataError, match="'n01', which is none of the 2 of the test set"):
        open_released(tmp_path, ("n02", "n1"), image_size=(12, 12), channels=3).part("fog", 1)
    with pytest.warns(DataWarning, match="matched in order: 'n01' is taken for 'cat', 'n02' for 'dog'"):
        by_order = open_released(tmp_path, ("cat", "dog"), image_size=(12, 12), channels=3).part("fog", 1)
    assert by_order.labels.tolist() == [0, 1]


def test_classes_with_a_slash_in_their_name() -> None:
    classes = ("T-shirt/top", "Dress", "Coat")
    assert match_classes(["Coat", "Dress", "T-shirt_top"], classes, "here").tolist() == [2, 1, 0]


def test_classes_and_corruptions_are_not_confused(tmp_path: Path) -> None:
    # NAME/SEVERITY/CLASS with classes called 1 to 5 is as deep as FAMILY/NAME/SEVERITY.
    for severity in range(1, 6):
        for owner in range(1, 6):
            place = tmp_path / "fog" / str(severity) / str(owner)
            place.mkdir(parents=True)
            Image.new("L", (8, 8)).save(place / "a.png")
    assert open_released(tmp_path, CLASSES, image_size=(8, 8), channels=1).names == ("fog",)
    shutil.rmtree(tmp_path / "fog" / "3")
    shutil.rmtree(tmp_path / "fog" / "5")
    with pytest.raises(DataError, match="no folder for severity 3 and 5 of fog"):
        open_released(tmp_path, CLASSES, image_size=(8, 8), channels=1)


def test_hidden_files_are_no_corruptions(tmp_path: Path) -> None:
    write_arrays(tmp_path / "set", ("fog",))
    # What a killed writer leaves behind, and what macOS packs beside a file.
    for name in (".snow.npy.tmp.npy", "._fog.npy"):
        (tmp_path / "set" / name).write_bytes(b"x")
    assert open_released(tmp_path / "set", CLASSES, image_size=(32, 32), channels=3).names == ("fog",)


def test_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(PUBLISHED_MD5) == 20
    assert all(len(sums) == 2 for sums in PUBLISHED_MD5.values())
    assert all(re.fullmatch("[0-9a-f]{32}", value) for sums in PUBLISHED_MD5.values() for value in sums)
    assert len(set().union(*PUBLISHED_MD5.values())) == 40
    write_arrays(tmp_path / "set", ("fog", "smog"))
    found = open_released(tmp_path / "set", CLASSES, image_size=(32, 32), channels=3)
    assert (found.published("fog"), found.published("smog")) == (False, None)
    import hashlib

    true = hashlib.md5((tmp_path / "set" / "fog.npy").read_bytes()).hexdigest()
    monkeypatch.setitem(PUBLISHED_MD5, "fog", {true})
    assert found.published("fog") is True


def test_what_is_no_corrupted_set(tmp_path: Path) -> None:
    def open_here(folder: Path) -> None:
        open_released(folder, CLASSES, image_size=(32, 32), channels=3).part("fog", 1)

    with pytest.raises(DataError, match="there is no folder"):
        open_here(tmp_path / "none")
    with pytest.raises(DataError, match=r"neither NAME\.npy"):
        open_here(tmp_path)
    np.save(tmp_path / "fog.npy", np.zeros((7, 32, 32, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"no labels\.npy"):
        open_here(tmp_path)
    np.save(tmp_path / "labels.npy", np.zeros(7, dtype=np.uint8))
    with pytest.raises(DataError, match=r"expected uint8 \(5·N, H, W, C\)"):
        open_here(tmp_path)
    np.save(tmp_path / "fog.npy", np.zeros((10, 32, 32, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"labels of .* shape \(7,\) for 10 images"):
        open_here(tmp_path)
    for shape in ((), (5,), (0, 32, 32, 3), (10, 32, 32, 2)):
        np.save(tmp_path / "fog.npy", np.zeros(shape, dtype=np.uint8))
        with pytest.raises(DataError, match=r"expected uint8 \(5·N, H, W, C\)"):
            open_here(tmp_path)
    (tmp_path / "fog.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="cannot be read as an array") as raised:
        open_here(tmp_path)
    assert "pickle" not in str(raised.value)  # no advice to run what is in it
    (tmp_path / "fog.npy").write_bytes(b"\x93NUMPY damaged")
    with pytest.raises(DataError, match="cannot be read as an array"):
        open_here(tmp_path)


def test_one_corruption_in_two_families_and_hidden_folders(tmp_path: Path) -> None:
    for family in ("blur", ".ipynb_checkpoints"):
        for severity in range(1, 6):
            place = tmp_path / family / "fog" / str(severity) / "n01"
            place.mkdir(parents=True)
            Image.new("RGB", (12, 12)).save(place / "1.png")
    found = open_released(tmp_path, ("n01", "n02"), image_size=(12, 12), channels=3)
    assert found.part("fog", 1).labels.tolist() == [0]
    shutil.copytree(tmp_path / "blur", tmp_path / "weather")
    with pytest.raises(DataError, match="holds fog twice"):
        open_released(tmp_path, ("n01", "n02"), image_size=(12, 12), channels=3)
    with pytest.raises(DataError, match="there is no folder"):
        open_released(" ", ("n01",), image_size=(12, 12), channels=3)


def test_a_set_with_splits_is_not_taken_for_one_folder(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("n01", "n02"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (12, 12)).save(tmp_path / part / name / "1.png")
    for gone in (None, "test"):
        if gone:
            shutil.rmtree(tmp_path / gone)
        with pytest.raises(DataError, match="a set with splits of its own"):
            load_shifted_folder(tmp_path, ("n01", "n02"), (12, 12), 3)
