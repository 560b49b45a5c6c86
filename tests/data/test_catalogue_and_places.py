"""Where sets are looked for, what is said when they are missing, and downloads without a network."""

import sys
from importlib.metadata import EntryPoint

import pytest
import torchvision.datasets

from robustprune.data import DATASETS, describe_datasets, load_data
from robustprune.data.registry import PLACES, default_root, folders
from robustprune.errors import DataError


@pytest.fixture(autouse=True)
def usual_root(monkeypatch, tmp_path):
    root = tmp_path / "usual"
    monkeypatch.setenv("ROBUSTPRUNE_DATA", str(root))
    for name, place in list(PLACES.items()):
        monkeypatch.setitem(PLACES, name, place.__class__(**{**vars(place), "system": ()}))
    return root


def test_the_usual_root_without_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("ROBUSTPRUNE_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "robustprune" / "data"


def test_a_given_root_comes_before_the_system_and_the_usual_one(monkeypatch, tmp_path, usual_root):
    system = tmp_path / "system"
    place = PLACES["fashion-mnist"]
    monkeypatch.setitem(PLACES, "fashion-mnist", place.__class__(**{**vars(place), "system": (system,)}))
    raw = "FashionMNIST/raw"
    given = tmp_path / "given"
    assert folders("fashion-mnist", given) == [given, given / raw, system, usual_root, usual_root / raw]
    assert folders("fashion-mnist", None) == [system, usual_root, usual_root / raw]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("fashion-mnist", "apt-get install dataset-fashion-mnist, or run again with --download"),
        ("cifar10", "--download"),
        ("cifar100", "--download"),
        ("svhn", "--download"),
        ("tiny-imagenet", "Tiny ImageNet page"),
    ],
)
def test_a_missing_set_says_where_and_how(name, advice, tmp_path, usual_root):
    with pytest.raises(DataError) as caught:
        load_data(name, root=tmp_path / "given")
    message = str(caught.value)
    assert str(tmp_path / "given") in message
    assert str(usual_root) in message
    assert advice in message
    assert "\n" not in message


def test_a_set_that_is_there_in_part_says_what_is_missing(tmp_path):
    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}").write_bytes(b"")
    with pytest.raises(DataError, match=r"incomplete: test_batch, batches\.meta missing"):
        load_data("cifar10", root=tmp_path)


def test_downloads_go_to_the_root_and_progress_to_stderr(monkeypatch, tmp_path, capsys):
    calls = []

    def fetch(root, download, split):
        print("fetching", split)
        calls.append((root, download, split))
        (tmp_path / "given" / f"{split}_32x32.mat").write_bytes(b"not MATLAB")

    monkeypatch.setattr(torchvision.datasets, "SVHN", fetch)
    with pytest.raises(DataError, match="not a MATLAB file"):
        load_data("svhn", root=tmp_path / "given", download=True)
    assert calls == [(str(tmp_path / "given"), True, split) for split in ("train", "test")]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "fetching train" in captured.err
    assert sys.stdout is not sys.stderr


def test_a_failed_download_is_a_clean_error(monkeypatch, tmp_path):
    def fetch(**_):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fetch)
    with pytest.raises(DataError, match=r"downloading 'cifar10' into .* failed: no route to host"):
        load_data("cifar10", root=tmp_path, download=True)


def test_nothing_is_downloaded_unasked_or_without_a_downloader(monkeypatch, tmp_path):
    def fetch(**_):
        raise AssertionError("downloaded")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fetch)
    with pytest.raises(DataError, match="was not found"):
        load_data("cifar10", root=tmp_path)
    with pytest.raises(DataError, match="no downloader"):
        load_data("tiny-imagenet", root=tmp_path, download=True)


def test_every_set_is_described(tmp_path):
    described = {line.name.partition(":")[0]: line for line in describe_datasets(tmp_path)}
    assert set(described) == set(DATASETS.names())
    assert all(line.description and "\n" not in line.description for line in described.values())
    assert described["digits"].available is True
    assert described["svhn"].available is False
    assert described["npz"].available is None
    for name in PLACES["svhn"].files:
        (tmp_path / name).write_bytes(b"")
    line = next(line for line in describe_datasets(tmp_path) if line.name == "svhn")
    assert (line.available, line.where) == (True, str(tmp_path))


def test_a_broken_plug_in_is_listed_rather_than_raised(monkeypatch):
    point = EntryPoint("broken", "robustprune.data.no_such_module:load", DATASETS.group)
    monkeypatch.setattr(DATASETS, "_entry_points", lambda: {"broken": point})
    line = next(line for line in describe_datasets() if line.name == "broken")
    assert line.available is False
    assert "no_such_module" in line.where
