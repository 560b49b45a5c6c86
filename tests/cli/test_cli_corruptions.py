"""Corruptions on the command line: several networks in one run, sets in the released layout, the gallery."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import TINY, Run, check_failure

from robustprune.corruptions import EXTRAS, HEADLINE, corrupt
from robustprune.data import load_data
from robustprune.records import load_record


@pytest.fixture
def ticket(run: Run) -> str:
    assert run("prune", *TINY, "--criterion", "random", "--blocks", "2", "--out", "ticket.pt").code == 0
    return "ticket.pt"


def test_one_network(run: Run, ticket: str) -> None:
    asking = ("evaluate", "--model", ticket, "--corruption", "fog", "--corruption", "pixelate", "--limit", "30")
    found = run(*asking, "--out", "record.json", "--json").json
    assert found == json.loads(Path("record.json").read_text())
    assert list(found["corruptions"]["table"]) == ["fog", "pixelate"]
    assert load_record("record.json").samples is not None
    drawn = run(*asking)
    assert drawn.code == 0
    for word in ("pixelate", "digits-c-like", "mean NLL", "of these", "same prediction"):
        assert word in drawn.out


@pytest.mark.slow
def test_several_networks(run: Run, ticket: str) -> None:
    asking = ("evaluate", "--model", ticket, "--extra-model", "resnet20:width=4", "--limit", "30")
    sizes = [found["model"]["parameters"] for found in run(*asking, "--json").json]
    assert sizes[0] < sizes[1] < 30_000
    check_failure(run(*asking[:2], f"{ticket}:width=4"), 1, "leave out width")
    asking = ("evaluate", "--model", ticket, "--extra-model", "resnet20", "--dense", "resnet32", "--limit", "30")
    outcome = run(*asking, "--corruption", "fog", "--out", "records", "--json")
    assert sorted(path.name for path in Path("records").glob("*.json")) == [
        "resnet20.json",
        "resnet32.json",
        "ticket.json",
    ]
    assert [found["model"]["path"] for found in outcome.json] == [ticket, "resnet20", "resnet32"]
    dense = [found["corruptions"]["dense"] for found in outcome.json]
    assert dense[2] is None
    assert dense[0]["path"] == "resnet32"
    assert dense[0]["sha256"] == outcome.json[2]["model"]["sha256"]
    check_failure(run(*asking), 1, "under corruptions only")
    Path("taken").write_text("x")
    check_failure(run(*asking, "--corruption", "fog", "--out", "taken"), 2, "name a folder")
    check_failure(run("evaluate", "--model", ticket, "--out", "records"), 2, "name a file")


@pytest.mark.slow
def test_set_in_the_released_layout_is_read_again(run: Run, ticket: str) -> None:
    found = run(
        "corrupt", "--dataset", "digits", "--corruption", "fog", "--corruption", "snow", "--out", "set", "--json"
    )
    assert found.json["written"] == ["fog", "snow"]
    test = load_data("digits").require("test")
    array = np.load("set/snow.npy")
    assert (array.dtype, array.shape) == (np.uint8, (5 * 359, 8, 8, 1))
    expected = corrupt(test.images, "snow", 4).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(array[3 * 359 : 4 * 359], expected)
    labels = np.load("set/labels.npy")
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, np.tile(test.labels.numpy(), 5))
    assert [path.name for path in Path("set").glob(".*")] == []
    asking = ("evaluate", "--model", ticket, "--limit", "40", "--json")
    read = run(*asking, "--corruption-dir", "set").json["corruptions"]
    made = run(*asking, "--corruption", "fog", "--corruption", "snow").json["corruptions"]
    assert read["table"] == made["table"]
    assert read["missing"] == [name for name in HEADLINE if name not in ("fog", "snow")]
    check_failure(run("evaluate", "--model", ticket, "--corruption-dir", "none"), 1, "there is no folder none")


def test_resume_writes_what_is_missing(run: Run) -> None:
    asking = ("corrupt", "--limit", "20", "--corruption", "fog", "--corruption", "contrast", "--out", "set")
    assert run(*asking).code == 0
    before = Path("set/fog.npy").stat().st_mtime_ns
    Path("set/contrast.npy").unlink()
    check_failure(run(*asking), 1, "add --resume")
    assert run(*asking, "--resume", "--json").json["written"] == ["contrast"]
    assert Path("set/fog.npy").stat().st_mtime_ns == before
    check_failure(run(*asking, "--resume", "--seed", "1"), 1, "otherwise, see seed")
    Path("set/settings.json").write_text("[]")
    check_failure(run(*asking, "--resume"), 1, "something that was made otherwise")
    Path("other").mkdir()
    np.save("other/fog.npy", np.zeros(3))
    check_failure(run(*asking[:-1], "other"), 1, "arrays of something else")


def test_frost_of_ones_own(run: Run, ticket: str) -> None:
    Path("ice").mkdir()
    Image.new("RGB", (100, 100), (200, 200, 200)).save("ice/plain.png")
    Path("ice/._plain.png").write_bytes(b"what macOS packs beside a file")
    asking = ("corrupt", "--limit", "10", "--out", "set", "--corruption", "frost:folder=ice")
    made = run(*asking, "--gallery", "frost.png")
    assert made.code == 0
    image = np.load("set/frost.npy")[0, :, :, 0].astype(int)
    first = np.asarray(Image.open("frost.png"))[4 : 4 + 64 : 8, 134 : 134 + 64 : 8, 0].astype(int)
    frosted = np.asarray(Image.open("frost.png"))[4 : 4 + 64 : 8, 202 : 202 + 64 : 8, 0]
    # By hand: the image, and all of it and 20 % of 200.
    np.testing.assert_array_equal(frosted, np.minimum(first + 40, 255))
    np.testing.assert_array_equal(image, frosted)
    # Found out before anything is written, and never passed over in silence.
    check_failure(run(*asking[:4], "other", "--corruption", "frost:folder=none"), 1, "no frost pictures in")
    assert not Path("other").exists()
    check_failure(run("corrupt", "--corruption", "fog:folder=ice", "--out", "other"), 1, "'folder' is no option of fog")
    check_failure(run(*asking, "--out", "ice"), 2, "--out ice", "--corruption")
    evaluating = ("evaluate", "--model", ticket, "--limit", "10", "--json", "--corruption", "fog,frost:folder=ice")
    check_failure(run(*evaluating, "--corruption-dir", "set"), 1, "the options 'folder' are for making")
    own, made = (run(*evaluating[:-1], names).json["corruptions"]["table"] for names in (evaluating[-1], "frost,fog"))
    assert own["fog"] == made["fog"]
    assert own["frost"] != made["frost"]


def test_gallery(run: Run) -> None:
    asking = ("corrupt", "--dataset", "photo-patches", "--image", "3", "--seed", "2", "--gallery")
    assert run(*asking, "gallery.png").code == 0
    picture = np.asarray(Image.open("gallery.png"))
    image = load_data("photo-patches", seed=2).require("test").images[3]
    # The first line: the image itself, enlarged twice, and Gaussian noise at severity 5 in the last place.
    tile = np.kron(image.permute(1, 2, 0).numpy(), np.ones((2, 2, 1), dtype=np.uint8))
    np.testing.assert_array_equal(picture[4 : 4 + 64, 134 : 134 + 64], tile)
    # As in the set that the same command writes: the fourth image of it.
    noisy = corrupt(image[None], "gaussian_noise", 5, seed=2, sample_ids=[3])[0]
    left = 134 + 5 * 68
    np.testing.assert_array_equal(picture[4 : 4 + 64 : 2, left : left + 64 : 2], noisy.permute(1, 2, 0))
    assert picture.shape[0] == (len(HEADLINE + EXTRAS) + 1) // 2 * 68 + 4
    grey = run("corrupt", "--corruption", "fog", "--gallery", "grey.jpg", "--json").json
    assert (grey["written"], grey["gallery"]) == ([], "grey.jpg")
    check_failure(run(*asking, "gallery.gif"), 1, ".png, .jpg")
    check_failure(run("corrupt", "--gallery", "x.png", "--image", "9999"), 2, "359 images")
    check_failure(run("corrupt"), 2, "--out", "--gallery")


@pytest.mark.slow
def test_shift(run: Run, ticket: str) -> None:
    test = load_data("digits").require("test")
    np.savez("other.npz", images=test.images[:60, 0].numpy(), labels=test.labels[:60].numpy())
    found = run("evaluate", "--model", ticket, "--shift", "other=npz:other.npz", "--limit", "30", "--json").json
    assert [entry["name"] for entry in found["shift"]] == ["other"]
    assert found["shift"][0]["n"] == 60
    drawn = run("evaluate", "--model", ticket, "--shift", "other=npz:other.npz", "--limit", "30")
    assert "Shifted sets" in drawn.out
    check_failure(run("evaluate", "--model", ticket, "--shift", "other.npz"), 1, "NAME=npz:FILE")
    check_failure(run("evaluate", "--model", ticket, "--shift", "x=a", "--shift", "x=b"), 1, "two shifted sets")
    assert torch.equal(test.labels[:60], load_data("digits").require("test").labels[:60])
