from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from robustprune.attacks.requests import Attacks
from robustprune.cost import measure_memory
from robustprune.data import ImageData
from robustprune.errors import EvaluationError
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.records import Record, load_record
from robustprune.tickets.ticket import Ticket
from robustprune.training import train


@pytest.fixture(scope="module")
def ticket(few_digits: ImageData) -> Ticket:
    made = Ticket.from_model(build_model("resnet20", few_digits, width=4), few_digits)
    return train(made, few_digits, epochs=2, batch_size=20, country=None)


@pytest.fixture(scope="module")
def evaluated(ticket: Ticket, few_digits: ImageData) -> Record:
    return evaluate(
        ticket, few_digits, attacks=Attacks(["fgsm", "pgd"], epsilons=["2/255", 0.1], steps=3), limit=60, seed=1
    )


@pytest.fixture
def record(evaluated: Record) -> Record:
    return evaluated.model_copy(deep=True)


def test_key_names(record: Record, tmp_path: Path) -> None:
    record.save(tmp_path / "record.json")
    found = json.loads((tmp_path / "record.json").read_text())
    assert found["schema"] == 1
    assert {"schema", "model", "dataset", "split", "n", "clean", "attacks", "environment", "seconds"} <= found.keys()
    assert {"path", "architecture", "sha256", "parameters", "macs", "filters", "removed"} <= found["model"].keys()
    assert found["clean"].keys() == {"accuracy", "interval", "nll", "ece", "brier"}
    assert {(entry["name"], entry["epsilon"]) for entry in found["attacks"]} == {
        ("fgsm", 2 / 255),
        ("fgsm", 0.1),
        ("pgd", 2 / 255),
        ("pgd", 0.1),
    }
    for entry in found["attacks"]:
        assert {
            *("name", "norm", "epsilon", "steps", "restarts", "robust_accuracy", "interval", "valid", "checks"),
            *("gradient_evaluations", "forward_evaluations", "seconds"),
        } <= entry.keys()
        assert entry["steps"] == (3 if entry["name"] == "pgd" else None)
        for check in entry["checks"]:
            assert check.keys() == {"name", "verdict", "detail"}
    assert "samples" not in found
    assert found["samples_file"] == "record.json.samples.npz"


def test_save_and_load(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "record.json"
    record.save(path)
    assert sorted(os.listdir(path.parent)) == ["record.json", "record.json.samples.npz"]
    found = load_record(path)
    assert found.model_dump() == record.model_dump()
    assert found.samples is not None
    assert record.samples is not None
    assert found.samples.keys() == record.samples.keys()
    for name, values in record.samples.items():
        assert found.samples[name].dtype == values.dtype
        np.testing.assert_array_equal(found.samples[name], values)


def test_summary_from_the_samples_by_hand(record: Record, few_digits: ImageData, tmp_path: Path) -> None:
    record.save(tmp_path / "record.json")
    found = json.loads((tmp_path / "record.json").read_text())
    with np.load(tmp_path / "record.json.samples.npz") as samples:
        labels, clean = samples["label"], samples["clean_prediction"]
        np.testing.assert_array_equal(labels, few_digits.require("test").labels[samples["index"]])
        check_share(found["clean"]["accuracy"], found["clean"]["interval"], clean == labels)
        for name in ("nll", "brier"):
            assert samples[name].mean() == pytest.approx(found["clean"][name], abs=1e-6)
        # Bins can only tell more apart than all samples in one.
        distance = abs((clean == labels).mean() - samples["confidence"].mean())
        assert distance <= found["clean"]["ece"] + 1e-6
        for i, entry in enumerate(found["attacks"]):
            prediction, broken = samples[f"attack{i}_prediction"], samples[f"attack{i}_broken"]
            np.testing.assert_array_equal(broken, prediction != labels)
            check_share(entry["robust_accuracy"], entry["interval"], ~broken)
            assert broken[clean != labels].all()
            assert (samples[f"attack{i}_norm"] <= entry["epsilon"] + 1e-6).all()
            assert samples[f"attack{i}_norm"][clean != labels].max() == 0
    # The attack does something here, so that the figures above are not trivially those of clean images.
    assert found["clean"]["accuracy"] > found["attacks"][-1]["robust_accuracy"]


def check_share(share: float, interval: list[float], hits: np.ndarray[Any, Any]) -> None:
    assert share == pytest.approx(hits.mean(), abs=1e-12)
    expected = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    assert interval == pytest.approx([expected.low, expected.high], abs=1e-9)


def test_samples_are_told_apart(ticket: Ticket, few_digits: ImageData, record: Record) -> None:
    def samples_of(limit: int, seed: int, split: str = "test") -> str:
        return evaluate(ticket, few_digits, limit=limit, seed=seed, split=split).samples_sha256

    assert samples_of(60, 1) == record.samples_sha256
    untrained = build_model("resnet20", few_digits, width=4, seed=9)
    assert evaluate(untrained, few_digits, limit=60, seed=1).samples_sha256 == record.samples_sha256
    others = {samples_of(60, 2), samples_of(50, 1), samples_of(60, 1, "val")}
    assert len(others | {record.samples_sha256}) == 4


def test_record_alone_is_enough(record: Record, tmp_path: Path) -> None:
    record.save(tmp_path / "record.json")
    (tmp_path / "record.json.samples.npz").unlink()
    assert load_record(tmp_path / "record.json").samples is None
    record.samples = None
    record.samples_file = None
    record.save(tmp_path / "alone.json")
    assert sorted(os.listdir(tmp_path)) == ["alone.json", "record.json"]
    assert load_record(tmp_path / "alone.json").samples is None


def test_samples_of_other_confidence(record: Record, tmp_path: Path) -> None:
    assert record.samples is not None
    record.samples = {**record.samples, "nll": record.samples["nll"] + 0.1}
    record.save(tmp_path / "record.json")
    with pytest.raises(EvaluationError, match="the nll is"):
        load_record(tmp_path / "record.json")


def test_memory_is_that_of_the_network(record: Record, ticket: Ticket) -> None:
    assert record.model.memory_bytes == measure_memory(ticket.network).to_dict()


def test_damaged_samples(record: Record, tmp_path: Path) -> None:
    path, beside = tmp_path / "record.json", tmp_path / "record.json.samples.npz"
    record.save(path)
    whole = beside.read_bytes()
    damaged = [b"", b"PK\x03\x04", *(whole[:length] for length in range(0, len(whole), 97))]
    for position in range(0, len(whole), 41):
        flipped = bytearray(whole)
        flipped[position] ^= 255
        damaged.append(bytes(flipped))
    harmless = 0
    for content in damaged:
        beside.write_bytes(content)
        with suppress(EvaluationError):
            samples = load_record(path).samples
            # Zip archives hold things nobody reads, such as times. What is read has to be right.
            harmless += 1
            assert samples is not None
            assert record.samples is not None
            for name, values in record.samples.items():
                np.testing.assert_array_equal(samples[name], values)
    assert harmless < len(damaged) / 4


def test_some_adversarial_images_are_kept(record: Record, few_digits: ImageData, tmp_path: Path) -> None:
    record.save(tmp_path / "record.json")
    found = load_record(tmp_path / "record.json")
    samples = found.samples
    assert samples is not None
    assert found.classes == [str(digit) for digit in range(10)]
    assert [entry.gallery > 0 for entry in found.attacks] == [False, True, False, True]  # at the largest ε
    for i in (1, 3):
        right = samples["clean_prediction"] == samples["label"]
        broken = samples["index"][samples[f"attack{i}_broken"] & right]
        np.testing.assert_array_equal(samples[f"gallery{i}_index"], sorted(broken)[: found.attacks[i].gallery])
        assert found.attacks[i].gallery == min(8, len(broken))
        clean = few_digits.require("test").images.numpy()[samples[f"gallery{i}_index"]]
        np.testing.assert_array_equal(samples[f"gallery{i}_clean"], clean)
        added = samples[f"gallery{i}_perturbation"].astype(float)
        assert abs(added).max() == pytest.approx(0.1, abs=1e-3)
        assert -1e-3 < (clean / 255 + added).min() <= (clean / 255 + added).max() < 1 + 1e-3


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gallery1_clean", lambda images: images[1:]),
        ("gallery1_clean", lambda images: images.astype(np.float32)),
        ("gallery1_perturbation", lambda images: images[..., 1:]),
        ("gallery1_perturbation", lambda images: images + np.float16(np.nan)),
        ("gallery1_index", lambda index: index + 10_000),
    ],
)
def test_damaged_adversarial_images(record: Record, tmp_path: Path, name: str, change: Callable[[Any], Any]) -> None:
    record.save(tmp_path / "record.json")
    assert record.samples is not None
    np.savez(tmp_path / "record.json.samples.npz", **dict(record.samples, **{name: change(record.samples[name])}))
    with pytest.raises(EvaluationError, match=name):
        load_record(tmp_path / "record.json")


def test_samples_with_code_in_them(record: Record, tmp_path: Path) -> None:
    class Touches:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'marker'}",)

    record.save(tmp_path / "record.json")
    np.savez(tmp_path / "record.json.samples.npz", index=np.array([Touches()], dtype=object))
    with pytest.raises(EvaluationError, match="cannot be read"):
        load_record(tmp_path / "record.json")
    assert not (tmp_path / "marker").exists()


def test_samples_of_another_record(ticket: Ticket, few_digits: ImageData, record: Record, tmp_path: Path) -> None:
    record.save(tmp_path / "record.json")
    beside = tmp_path / "record.json.samples.npz"
    assert record.samples is not None
    wrong = dict(record.samples, clean_prediction=(record.samples["clean_prediction"] + 1) % 10)
    np.savez(beside, **wrong)
    with pytest.raises(EvaluationError, match=r"not those of the record.*clean accuracy"):
        load_record(tmp_path / "record.json")
    np.savez(beside, **dict(record.samples, attack3_broken=~record.samples["attack3_broken"]))
    with pytest.raises(EvaluationError, match="robust accuracy under pgd"):
        load_record(tmp_path / "record.json")
    np.savez(beside, **{name: values[1:] for name, values in record.samples.items()})
    with pytest.raises(EvaluationError, match="each of 60 samples"):
        load_record(tmp_path / "record.json")
    evaluate(ticket, few_digits, limit=60, seed=1).save(tmp_path / "other.json")
    os.replace(tmp_path / "other.json.samples.npz", beside)
    with pytest.raises(EvaluationError, match="they hold brier, clean_prediction, confidence, index, label, nll, not"):
        load_record(tmp_path / "record.json")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema": 2}, "schema"),
        ({"surprise": 1}, "surprise"),
        ({"n": "many"}, "n: "),
        ({"clean": {}}, r"clean\.accuracy"),
        ({"attacks": None}, "attacks"),
    ],
)
def test_records_of_another_schema(record: Record, tmp_path: Path, change: dict[str, Any], match: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(json.loads(record.to_json()) | change))
    with pytest.raises(EvaluationError, match=f"is no record of this version: {match}"):
        load_record(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema": NaN}'])
def test_no_record_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match="is no record of this version") as caught:
        load_record(path)
    assert len(str(caught.value)) < 500
    with pytest.raises(EvaluationError, match="cannot be read: No such file"):
        load_record(tmp_path / "missing.json")
    with pytest.raises(EvaluationError, match="cannot be read: Is a directory"):
        load_record(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.npz", ".", "..", "/", ""])
def test_samples_are_looked_for_beside_the_record_only(record: Record, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.npz").write_bytes(b"not to be read")
    path = tmp_path / "inside" / "record.json"
    path.parent.mkdir()
    record.samples_file = name
    path.write_text(record.to_json())
    assert load_record(path).samples is None


def test_failed_writing_leaves_nothing(record: Record, tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(EvaluationError, match="is a folder"):
        record.save(tmp_path / "folder.json")
    with pytest.raises(EvaluationError, match="is a file, not a folder"):
        record.save(tmp_path / "file" / "record.json")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.json"]


def test_failure_between_the_two_files(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def only_samples(source: Path, target: Path) -> None:
        if target.suffix == ".json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", only_samples)
    with pytest.raises(EvaluationError, match="No space left on device"):
        record.save(tmp_path / "record.json")
    # The record comes last: without it, nothing claims to be there.
    assert os.listdir(tmp_path) == ["record.json.samples.npz"]


@pytest.mark.parametrize(
    "names",
    [
        ["dense-lr0.1", "dense-lr0.2"],
        ["eps.json", "eps.txt", "eps"],
        ["a.b.json", "a.json", "a.samples.json"],
        [".json", "..json", "json"],
        ["lr=0.1,seed=0.json", "lr=0.1,seed=1.json"],
    ],
)
def test_records_of_different_names_keep_outcomes_of_their_own(
    record: Record, tmp_path: Path, names: list[str]
) -> None:
    assert record.samples is not None
    size = len(record.samples["confidence"])
    for place, name in enumerate(names):
        record.samples = {**record.samples, "confidence": np.full(size, place, np.float32)}
        record.save(tmp_path / name)
    assert len(os.listdir(tmp_path)) == 2 * len(names)
    for place, name in enumerate(names):
        found = load_record(tmp_path / name).samples
        assert found is not None
        assert (found["confidence"] == place).all()


def test_a_renamed_record_keeps_its_outcomes(record: Record, tmp_path: Path) -> None:
    record.save(tmp_path / "r.json")
    record.save(tmp_path / "r.json")  # a second time is no matter
    os.rename(tmp_path / "r.json", tmp_path / "kept.json")
    before = (tmp_path / "r.json.samples.npz").read_bytes()
    with pytest.raises(EvaluationError, match=r"kept\.json has its outcomes per sample in r\.json\.samples\.npz"):
        record.save(tmp_path / "r.json")
    assert sorted(os.listdir(tmp_path)) == ["kept.json", "r.json.samples.npz"]
    assert (tmp_path / "r.json.samples.npz").read_bytes() == before
    (tmp_path / "moved").mkdir()
    for name in ("kept.json", "r.json.samples.npz"):
        os.rename(tmp_path / name, tmp_path / "moved" / name)
    assert load_record(tmp_path / "moved" / "kept.json").samples is not None
    record.save(tmp_path / "r.json")


def test_outcomes_that_are_no_arrays_are_no_matter_of_trust(record: Record, tmp_path: Path) -> None:
    record.save(tmp_path / "r.json")
    (tmp_path / "r.json.samples.npz").write_bytes(b"x")
    with pytest.raises(EvaluationError, match=r"samples\.npz cannot be read: it is no file of arrays$"):
        load_record(tmp_path / "r.json")


def test_a_link_to_a_record_keeps_nobody_from_writing_it_again(record: Record, tmp_path: Path) -> None:
    record.save(tmp_path / "r.json")
    (tmp_path / "latest.json").symlink_to("r.json")
    record.save(tmp_path / "r.json")
    assert load_record(tmp_path / "latest.json").samples is not None
