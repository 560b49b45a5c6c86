from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robustprune.cli.options import DataOptions, NetworkOptions
from robustprune.cli.workbench import open_model, open_model_like
from robustprune.data import load_data
from robustprune.errors import TicketError, UnknownNameError
from robustprune.models import build_model
from robustprune.tickets.ticket import Ticket

TINY = {"width": 4}
TINY_RESNET = NetworkOptions("resnet20:width=4")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    data = load_data("digits", train_limit=200, seed=3, image_size=12)
    Ticket.from_model(build_model("resnet20", data, seed=5, **TINY), data).save(tmp_path / "ticket.pt")
    return tmp_path / "ticket.pt"


def test_name_gets_fresh_weights_from_the_seed() -> None:
    ticket, data = open_model(TINY_RESNET, seed=2)
    again, _ = open_model(TINY_RESNET, DataOptions("digits"), seed=2)
    other, _ = open_model(TINY_RESNET, seed=3)
    assert ticket.sha256 == again.sha256 != other.sha256
    assert ticket.seed == 2
    assert data.spec["name"] == "digits"
    assert data.spec["seed"] == 2


def test_ticket_brings_its_image_set(saved: Path) -> None:
    _, data = open_model(NetworkOptions(str(saved)))
    expected = load_data("digits", train_limit=200, seed=3, image_size=12)
    assert data.provenance["sha256"] == expected.provenance["sha256"]


@pytest.mark.parametrize("seed", [0, 1, 3])
@pytest.mark.parametrize("dataset", [None, "digits"])
def test_no_seed_moves_images_between_training_and_validation(saved: Path, seed: int, dataset: str | None) -> None:
    # Else a network would be validated on images that it was trained on.
    _, data = open_model(NetworkOptions(str(saved)), DataOptions(dataset), seed=seed)
    assert data.spec["seed"] == 3


def test_what_is_given_wins_over_what_is_remembered(saved: Path) -> None:
    _, data = open_model(NetworkOptions(str(saved)), DataOptions(train_limit=50))
    assert len(data.require("train")) == 50
    assert data.spec["seed"] == 3


def test_other_image_set_is_fitted_to_the_network(saved: Path) -> None:
    _, data = open_model(NetworkOptions(str(saved)), DataOptions("photo-patches"), seed=7)
    assert (data.channels, data.image_size) == (1, (12, 12))
    assert data.spec["seed"] == 7
    _, data = open_model(NetworkOptions(str(saved)), DataOptions("photo-patches", channels=3))
    assert data.channels == 3


def test_ticket_without_an_image_set(saved: Path, tmp_path: Path) -> None:
    Ticket.from_model(build_model("resnet20", load_data("digits"), **TINY)).save(tmp_path / "bare.pt")
    with pytest.raises(TicketError, match=r"remembers no data set; name one with --dataset"):
        open_model(NetworkOptions(str(tmp_path / "bare.pt")))
    assert open_model(NetworkOptions(str(tmp_path / "bare.pt")), DataOptions("digits"))[1].name == "digits"


def test_ticket_takes_no_options(saved: Path) -> None:
    with pytest.raises(TicketError, match="leave out width"):
        open_model(NetworkOptions(f"{saved}:width=4"))


def test_counterpart_is_shaped_like_the_ticket(saved: Path) -> None:
    ticket, _ = open_model(NetworkOptions(str(saved)))
    by_name = open_model_like(TINY_RESNET, ticket.architecture, seed=5)
    assert by_name.architecture == ticket.architecture
    by_file = open_model_like(NetworkOptions(str(saved)), ticket.architecture)
    assert by_file.sha256 == ticket.sha256


def test_what_names_a_ticket(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    (saved.parent / "resnet20").mkdir()
    (saved.parent / "renamed").write_bytes(saved.read_bytes())
    assert all(NetworkOptions(name).is_ticket for name in ("ticket.pt", "missing.pt", "a.pth", "b.ckpt", "renamed"))
    # A folder that is called like a network does not hide it.
    assert not NetworkOptions("resnet20").is_ticket
    assert open_model(TINY_RESNET)[0].architecture.name == "resnet20"
    assert open_model(NetworkOptions("renamed"))[0].seed == 5
    with pytest.raises(UnknownNameError, match="no model called 'missing'"):
        open_model(NetworkOptions("missing"))


def test_relative_path_names_the_set_a_ticket_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(
        tmp_path / "own.npz",
        train_images=images,
        train_labels=np.arange(60) % 3,
        test_images=images[:6],
        test_labels=np.arange(6) % 3,
    )
    data = load_data(f"npz:{tmp_path / 'own.npz'}", seed=3, train_limit=30)
    Ticket.from_model(build_model("resnet20", data, **TINY), data).save(tmp_path / "ticket.pt")
    monkeypatch.chdir(tmp_path)
    _, found = open_model(NetworkOptions("ticket.pt"), DataOptions("npz:own.npz"))
    assert found.spec == data.spec
