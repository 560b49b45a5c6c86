"""What is told apart before a file is replaced."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from synthetic_records import make_record
from torch import nn

from robustprune.attacks import run_attack, save_adversarial
from robustprune.corruptions import Corruptions
from robustprune.corruptions.corrupted_files import write_gallery
from robustprune.data import ImageData
from robustprune.errors import AttackError, CorruptionError, EvaluationError, TicketError
from robustprune.models import build_model
from robustprune.runtime import file_kinds
from robustprune.runtime.file_kinds import FileKind, check_replaceable, overwriting
from robustprune.runtime.files import write_atomically
from robustprune.runtime.work import Work
from robustprune.tickets.export import export_model
from robustprune.tickets.ticket import Ticket
from robustprune.training import CHECKPOINT_NAME, train

ALL = {name: kind for name, kind in vars(file_kinds).items() if isinstance(kind, FileKind)}
OWN = {
    "TICKET": "ticket.pt",
    "CHECKPOINT": "checkpoint",
    "RECORD": "record.json",
    "OUTCOMES": "record.json.samples.npz",
    "ADVERSARIAL": "adversarial.npz",
    "EXPORT": "network.pt2",
    "PICTURE": "gallery.png",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, few_digits: ImageData) -> Path:
    """A folder with a file of each kind, as it comes out of the package, and files that are of none."""
    home = tmp_path_factory.mktemp("kinds")
    ticket = Ticket.from_model(build_model("resnet20", few_digits, width=4), few_digits)
    ticket.save(home / "ticket.pt")
    train(ticket, few_digits, epochs=1, country=None, work=Work(folder=home))
    (home / CHECKPOINT_NAME).rename(home / "checkpoint")
    make_record().save(home / "record.json")
    images, labels = few_digits.require("test").images[:4], few_digits.require("test").labels[:4]
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    save_adversarial(run_attack(linear, images, labels, "fgsm", epsilon=0.1), linear, home / "adversarial.npz")
    export_model(
        Ticket.from_model(build_model("resnet20", few_digits, width=4), few_digits),
        home / "network.pt2",
        "torch-export",
    )
    write_gallery(images[0], home / "gallery.png", Corruptions("fog"))
    np.savez(home / "set.npz", test_images=images.numpy(), test_labels=labels.numpy())
    (home / "net.py").write_text("import robustprune  # Written by robustprune's user")
    (home / "page.html").write_text("<!doctype html><p>About robustprune</p>")
    return home


@pytest.mark.parametrize("name", OWN)
def test_a_kind_knows_its_own_and_nothing_else(folder: Path, name: str) -> None:
    found = [path.name for path in sorted(folder.iterdir()) if ALL[name].recognizes(path)]
    assert found == [OWN[name]]


@pytest.mark.parametrize("name", ALL)
def test_damage_is_no_file_of_a_kind(folder: Path, tmp_path: Path, name: str) -> None:
    for path in folder.iterdir():
        for content in (path.read_bytes()[:-100], b"\x00" * 10, b"[" * 100_000):
            (tmp_path / "damaged").write_bytes(content)
            ALL[name].recognizes(tmp_path / "damaged")  # raises nothing
    assert not ALL[name].recognizes(tmp_path / "damaged")


def test_what_is_there_decides(folder: Path, tmp_path: Path) -> None:
    check_replaceable(tmp_path / "new", file_kinds.TICKET)
    (tmp_path / "empty").touch()  # as mktemp makes it
    check_replaceable(tmp_path / "empty", file_kinds.TICKET)
    check_replaceable(folder / "ticket.pt", file_kinds.TICKET)
    for wrong in (folder / "record.json", folder, Path(os.devnull)):
        with pytest.raises(OSError, match=r"lost|directory|device"):
            check_replaceable(wrong, file_kinds.TICKET)
    with overwriting(True):
        check_replaceable(folder / "record.json", file_kinds.TICKET)
        with pytest.raises(OSError, match="device"):
            check_replaceable(Path(os.devnull), None)
    with pytest.raises(OSError, match="device"):
        write_atomically(Path(os.devnull), b"no device any more")


def test_python_refuses_likewise(folder: Path, tmp_path: Path, few_digits: ImageData) -> None:
    foreign = tmp_path / "notes.txt"
    foreign.write_text("somebody's work")
    picture = tmp_path / "photo.png"
    picture.write_bytes(b"\x89PNG of somebody's")
    ticket = Ticket.from_model(build_model("resnet20", few_digits, width=4), few_digits)
    with pytest.raises(TicketError, match="not a ticket and would be lost"):
        ticket.save(foreign)
    with pytest.raises(EvaluationError, match="not a record and would be lost"):
        make_record().save(foreign)
    with pytest.raises(CorruptionError, match="would be lost"):
        write_gallery(few_digits.require("test").images[0], picture, Corruptions("fog"))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    test = few_digits.require("test")
    result = run_attack(linear, test.images[:4], test.labels[:4], "fgsm", epsilon=0.1)
    with pytest.raises(AttackError, match="would be lost"):
        save_adversarial(result, linear, foreign)
    assert foreign.read_text() == "somebody's work"
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "photo.png"]
