"""The part of the record about corruptions and shifted sets, against figures computed by hand from predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustprune.cli.corrupt import corruption_tables
from robustprune.comparison.metric import MetricValue
from robustprune.comparison.record_metrics import read_metrics
from robustprune.corruptions import (
    CORRUPTIONS,
    EXTRAS,
    HEADLINE,
    Corruptions,
    ImageRandomness,
    corrupt,
    register_corruption,
)
from robustprune.data import ImageData, load_data
from robustprune.errors import CorruptionError, DataError, EvaluationError, UnknownNameError
from robustprune.evaluation import corruptions as module
from robustprune.evaluation import evaluate, evaluate_models, evaluators
from robustprune.models import build_model
from robustprune.records import Record, load_record
from robustprune.sweep.query.record_rows import flatten
from robustprune.tickets.ticket import Ticket
from robustprune.training import train


@pytest.fixture(scope="module")
def ticket() -> Ticket:
    data = load_data("digits")
    made = Ticket.from_model(build_model("resnet20", data, width=4), data)
    return train(made, data, epochs=4, country=None)


class Bars(nn.Module):
    """A classifier of digits by fixed random projections: quick, and wrong often enough."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10, bias=False)
        generator = torch.Generator().manual_seed(seed)
        self.layer.weight.data = torch.randn(10, 64, generator=generator)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1))  # type: ignore[no-any-return]


class Untouched(nn.Module):
    """A network that nothing should get as far as."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("asked before it was known that the images are there")


def test_table_against_predictions(ticket: Ticket, digits: ImageData) -> None:
    record = evaluate(ticket, digits, corruptions=["fog", "gaussian_noise"], limit=120, seed=3)
    found = record.corruptions
    assert found is not None
    assert record.samples is not None
    assert found.source == "digits-c-like"
    assert (found.n, found.scale, found.missing) == (120, 1.0, [])
    index = torch.from_numpy(record.samples["index"])
    test = digits.require("test")
    network = ticket.model()
    for name in ("fog", "gaussian_noise"):
        # Corrupted within the whole set: the same images.
        for severity in (1, 5):
            images = corrupt(test.images, name, severity, seed=3)[index].float() / 255
            with torch.no_grad():
                logits = network(images)
            labels = test.labels[index]
            predictions = logits.argmax(1)
            expected = float((predictions == labels).double().mean())
            assert found.table[name][severity - 1] == pytest.approx(expected)
            np.testing.assert_array_equal(record.samples[f"corruption_{name}_{severity}"], predictions)
            same = (predictions.numpy() == record.samples["clean_prediction"]).mean()
            assert found.consistency is not None
            assert found.consistency[name][severity - 1] == pytest.approx(same)
            probabilities = logits.double().softmax(1)
            nll = -probabilities[torch.arange(120), labels].log().mean()
            assert found.nll[name][severity - 1] == pytest.approx(float(nll), rel=1e-3)
            brier = (probabilities - nn.functional.one_hot(labels, 10)).square().sum(1).mean()
            assert found.brier[name][severity - 1] == pytest.approx(float(brier), rel=1e-3)
    mean = np.mean(list(found.table.values()))
    assert found.mean_error_evaluated == pytest.approx(1 - mean)
    assert found.relative_mean_error == pytest.approx(record.clean.accuracy - mean)
    # Two of fifteen are no headline figure.
    assert (found.mean_accuracy, found.mean_error, found.mean_error_19) == (None, None, None)
    by_hand = np.mean([row[4] for row in found.table.values()])
    assert found.by_severity[4].accuracy == pytest.approx(by_hand)


def test_headline_and_all_nineteen(digits: ImageData) -> None:
    record = evaluate(Bars(0), digits, corruptions=["extras", "all"], limit=20)
    found = record.corruptions
    assert found is not None
    fifteen = np.mean([found.table[name] for name in HEADLINE])
    # Grey images have no saturation to change: nothing is withstood.
    assert found.unchanged == {"saturate": [1, 2, 3, 4, 5]}
    others = np.mean([found.table[name] for name in HEADLINE + EXTRAS if name != "saturate"])
    assert found.mean_accuracy == pytest.approx(fifteen)
    assert found.mean_error == pytest.approx(1 - fifteen)
    assert found.mean_error_19 == pytest.approx(1 - others)
    assert found.by_severity[0].accuracy == pytest.approx(np.mean([found.table[name][0] for name in HEADLINE]))
    alone = evaluate(Bars(0), digits, corruptions="all", limit=20).corruptions
    assert alone is not None
    assert alone.mean_error_19 is None
    assert alone.mean_accuracy == found.mean_accuracy


@pytest.fixture
def corruptions_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CORRUPTIONS, "_registered", {})

    @register_corruption("late")
    def late(images: np.ndarray, severity: int, draws: ImageRandomness) -> np.ndarray:
        return images if severity < 3 else 255 - images

    @register_corruption("idle")
    def idle(images: np.ndarray, severity: int, draws: ImageRandomness) -> np.ndarray:
        return images


@pytest.mark.usefixtures("corruptions_of_ours")
def test_what_changes_no_image_counts_in_no_mean(digits: ImageData, capsys: pytest.CaptureFixture[str]) -> None:
    record = evaluate(Bars(0), digits, corruptions=["late", "fog", "idle"], limit=50)
    found = record.corruptions
    assert found is not None
    assert found.unchanged == {"late": [1, 2], "idle": [1, 2, 3, 4, 5]}
    assert found.repeated == {"late": [4, 5]}
    # All of the table, as it was measured.
    assert found.table["idle"] == [record.clean.accuracy] * 5
    fog, late = found.table["fog"], found.table["late"]
    mean = np.mean([*fog, *late[2:]])
    assert found.mean_error_evaluated == pytest.approx(1 - mean)
    assert found.relative_mean_error == pytest.approx(record.clean.accuracy - mean)
    expected = [*fog[:2], *np.mean([fog[2:], late[2:]], axis=0)]
    assert [entry.accuracy for entry in found.by_severity] == pytest.approx(expected)
    outcome = of_corruptions(record)
    assert outcome.value == pytest.approx(100 * mean)
    assert 100 * outcome.samples[0].mean() == pytest.approx(100 * mean, rel=1e-5)
    corruption_tables(record)
    drawn = " ".join(capsys.readouterr().out.split())
    assert "changes no image, left out of the means: late 1 2, idle" in drawn
    assert "the same images as at a lower severity: late 4 5" in drawn
    columns = flatten(record.model_dump(mode="json", by_alias=True, exclude={"samples"}))
    assert columns["idle"] is None
    assert columns["late"] == pytest.approx(np.mean(late[2:]))


def of_corruptions(record: Record) -> MetricValue:
    return next(found for metric, found in read_metrics(record).items() if metric.key == "corruption_accuracy")


@pytest.mark.usefixtures("corruptions_of_ours")
def test_where_nothing_is_changed_there_is_no_mean(digits: ImageData) -> None:
    records = evaluate_models({"dense": Bars(0), "a": Bars(1)}, digits, dense="dense", corruptions=["idle"], limit=20)
    for record in records.values():
        found = record.corruptions
        assert found is not None
        assert (found.mean_error_evaluated, found.relative_mean_error, found.by_severity) == (None, None, [])
        corruption_tables(record)
    assert records["a"].corruptions.dense.mce_vs_dense is None  # type: ignore[union-attr]
    assert of_corruptions(records["a"]).problem == "the corruptions change no image"


@pytest.mark.usefixtures("corruptions_of_ours")
def test_a_relative_error_is_over_what_changes_an_image(digits: ImageData) -> None:
    records = evaluate_models(
        {"dense": Bars(0), "a": Bars(1)}, digits, dense="dense", corruptions=["late", "fog", "idle"], limit=60
    )
    errors = []
    for name in ("a", "dense"):
        table = records[name].corruptions.table  # type: ignore[union-attr]
        errors.append(np.array([np.sum(1 - np.array(table["late"][2:])), np.sum(1 - np.array(table["fog"]))]))
    found = records["a"].corruptions.dense  # type: ignore[union-attr]
    assert found is not None
    assert found.mce_vs_dense == pytest.approx(np.mean(errors[0] / errors[1]))


def test_a_published_set_that_changes_nothing(digits: ImageData, tmp_path: Path) -> None:
    test = digits.require("test")
    images, labels = test.images.numpy().transpose(0, 2, 3, 1), test.labels.numpy().astype(np.uint8)
    np.save(tmp_path / "labels.npy", np.tile(labels, 5))
    np.save(tmp_path / "fog.npy", np.concatenate([images, images, 255 - images, images // 2, images // 2]))
    found = evaluate(Bars(0), digits, corruptions=Corruptions("fog", published=tmp_path), limit=30).corruptions
    assert found is not None
    assert (found.unchanged, found.repeated) == ({"fog": [1, 2]}, {"fog": [5]})
    assert found.mean_error_evaluated == pytest.approx(1 - np.mean(found.table["fog"][2:]))


def test_several_networks_share_the_images(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"dense": Bars(0), "a": Bars(1), "b": Bars(2)}
    alone = {
        name: evaluate(model, digits, corruptions=["snow", "contrast"], limit=50) for name, model in models.items()
    }
    monkeypatch.setattr(module, "_CHUNK_BYTES", 64 * 20)  # three chunks
    made: list[tuple[str, int]] = []
    from robustprune.evaluation import corruption_sources

    def counting(images: torch.Tensor, name: str, severity: int, **keys: object) -> torch.Tensor:
        made.append((name, severity))
        return corrupt(images, name, severity, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(corruption_sources, "corrupt", counting)
    together = evaluate_models(models, digits, dense="dense", corruptions=["snow", "contrast"], limit=50)
    # Ten cells in three chunks, and one to try the copies of the networks on; not thirty cells.
    assert len(made) <= 10 * 3 + 3
    for name, record in together.items():
        assert record.corruptions is not None
        assert record.corruptions.table == alone[name].corruptions.table  # type: ignore[union-attr]
    assert together["dense"].corruptions.dense is None  # type: ignore[union-attr]
    for name in ("a", "b"):
        found, dense = together[name].corruptions, together["dense"].corruptions
        assert found is not None
        assert dense is not None
        assert found.dense is not None
        ratios = [
            np.sum(1 - np.array(found.table[each])) / np.sum(1 - np.array(dense.table[each]))
            for each in ("snow", "contrast")
        ]
        assert found.dense.mce_vs_dense == pytest.approx(np.mean(ratios))
        assert found.dense.sha256 == together["dense"].model.sha256


def test_seconds_hold_what_is_done_side_by_side(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def corrupting(images: torch.Tensor, name: str, severity: int, **keys: object) -> torch.Tensor:
        now[0] += 10
        return corrupt(images, name, severity, **keys)  # type: ignore[arg-type]

    def timing(*_arguments: object) -> None:
        now[0] += 1000

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr("robustprune.evaluation.corruption_sources.corrupt", corrupting)
    monkeypatch.setattr("robustprune.evaluation.evaluators.add_latency", timing)
    settings = {"corruptions": "contrast", "limit": 20, "latency": True}
    alone = evaluate(Bars(0), digits, **settings)  # type: ignore[arg-type]
    together = evaluate_models({"a": Bars(0), "b": Bars(1)}, digits, **settings)  # type: ignore[arg-type]
    # Five severities, and one image to try copies of the networks on, for each of them.
    assert [record.seconds for record in (alone, *together.values())] == [1060, 1070, 1070]


def test_relative_error_by_hand(digits: ImageData) -> None:
    record = evaluate(Bars(0), digits, corruptions=["snow", "fog"], limit=20)
    dense = record.corruptions
    assert dense is not None
    dense = dense.model_copy(update={"table": {"snow": [0.8] * 5, "fog": [0.9, 0.9, 0.9, 0.9, 0.4]}})
    other = dense.model_copy(update={"table": {"snow": [0.6] * 5, "fog": [0.9, 0.9, 0.9, 0.9, 0.65]}})
    pair = [
        record.model_copy(
            update={"corruptions": result, "clean": record.clean.model_copy(update={"accuracy": accuracy})}
        )
        for result, accuracy in ((other, 0.8), (dense, 0.9))
    ]
    module.relate_to_dense(*pair)
    found = other.dense
    assert found is not None
    # snow: 2 / 1 and 1 / .5; fog: .75 / 1 and −.25 / .5.
    assert found.mce_vs_dense == pytest.approx((2 + 0.75) / 2)
    assert found.relative_mce_vs_dense == pytest.approx((2 - 0.5) / 2)


def test_record_is_read_back_and_checked(digits: ImageData, tmp_path: Path) -> None:
    npz = tmp_path / "other.npz"
    test = digits.require("test")
    np.savez(npz, images=test.images[:30, 0].numpy(), labels=test.labels[:30].numpy())
    record = evaluate(Bars(0), digits, corruptions="fog", shift={"other": f"npz:{npz}"}, limit=40)
    record.save(tmp_path / "record.json")
    again = load_record(tmp_path / "record.json")
    assert again.corruptions == record.corruptions
    assert again.shift == record.shift
    with np.load(tmp_path / "record.json.samples.npz") as archive:
        arrays = dict(archive)
    arrays["corruption_fog_2"] = (arrays["label"] + 1) % 10
    np.savez(tmp_path / "record.json.samples.npz", **arrays)
    with pytest.raises(EvaluationError, match="accuracy under fog 2"):
        load_record(tmp_path / "record.json")


def write_set(folder: Path, digits: ImageData, names: tuple[str, ...]) -> None:
    folder.mkdir()
    test = digits.require("test")
    for name in names:
        made = [corrupt(test.images, name, severity) for severity in range(1, 6)]
        np.save(folder / f"{name}.npy", torch.cat(made).permute(0, 2, 3, 1).numpy())
    np.save(folder / "labels.npy", test.labels.repeat(5).numpy().astype(np.uint8))


def test_a_released_set_gives_what_made_images_give(digits: ImageData, tmp_path: Path) -> None:
    write_set(tmp_path / "digits-c", digits, ("fog", "snow"))
    read = evaluate(Bars(0), digits, corruptions=Corruptions(published=tmp_path / "digits-c"), limit=60).corruptions
    made = evaluate(Bars(0), digits, corruptions=["fog", "snow"], limit=60).corruptions
    assert read is not None
    assert made is not None
    assert read.table == {name: made.table[name] for name in read.table}
    assert read.consistency == {name: made.consistency[name] for name in read.table}  # type: ignore[index]
    assert sorted(read.missing) == sorted(set(HEADLINE) - {"fog", "snow"})
    assert read.published == {"fog": False, "snow": False}
    assert (read.scale, read.mean_error) == (None, None)
    assert read.source == str(tmp_path / "digits-c")


def test_sets_of_other_corruptions(digits: ImageData, tmp_path: Path) -> None:
    write_set(tmp_path / "bar", digits, ("fog",))
    (tmp_path / "bar" / "fog.npy").rename(tmp_path / "bar" / "plasma_noise.npy")
    found = evaluate(Bars(0), digits, corruptions=Corruptions("all", published=tmp_path / "bar"), limit=30).corruptions
    assert found is not None
    assert list(found.table) == ["plasma_noise"]
    assert (found.missing, found.published) == ([], {"plasma_noise": None})
    (tmp_path / "bar" / "snow.npy").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"snow\.npy cannot be read"):  # before anything else is done
        evaluate(Untouched(), digits, corruptions=Corruptions(["plasma_noise", "snow"], published=tmp_path / "bar"))
    (tmp_path / "bar" / "snow.npy").unlink()
    with pytest.raises(EvaluationError, match="has none of snow; it has plasma_noise"):
        evaluate(Bars(0), digits, corruptions=Corruptions("snow", published=tmp_path / "bar"), limit=30)
    np.save(tmp_path / "bar" / "labels.npy", np.zeros(5 * 359, dtype=np.uint8))
    with pytest.raises(EvaluationError, match="was not made from these test images"):
        evaluate(Bars(0), digits, corruptions=Corruptions("all", published=tmp_path / "bar"), limit=30)


def test_shifted_sets(digits: ImageData, tmp_path: Path) -> None:
    test = digits.require("test")
    images = test.images.repeat(1, 3, 1, 1).permute(0, 2, 3, 1).numpy()
    labels = test.labels.numpy()
    np.savez(tmp_path / "cifar102_test.npz", images=images[:50], labels=labels[:50], label_names=np.arange(10))
    older = tmp_path / "cifar10.1"
    older.mkdir()
    np.save(older / "cifar10.1_v6_data.npy", images[50:90])
    np.save(older / "cifar10.1_v6_labels.npy", labels[50:90].astype(np.int32))
    shifts = {"cifar10.2": tmp_path, "cifar10.1": older, "again": f"npz:{tmp_path}/cifar102_test.npz"}
    record = evaluate(Bars(0), digits, shift=shifts)
    assert [entry.name for entry in record.shift] == list(shifts)
    assert [entry.n for entry in record.shift] == [50, 40, 50]
    assert record.samples is not None
    right = record.samples["clean_prediction"] == record.samples["label"]
    # The same images: grey made colour and grey again.
    assert record.shift[0].accuracy == pytest.approx(right[:50].mean())
    assert record.shift[1].accuracy == pytest.approx(right[50:90].mean())
    assert record.shift[1].gap == pytest.approx(record.clean.accuracy - record.shift[1].accuracy)
    low, high = record.shift[0].interval
    assert low < record.shift[0].accuracy < high


def test_what_cannot_be_evaluated(digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing of it is found out only after the attacks, which may take hours.
    monkeypatch.setattr(evaluators, "run_attacks", Untouched())
    with pytest.raises(UnknownNameError, match="Did you mean 'fog'"):
        evaluate(Bars(0), digits, corruptions="fogg")
    with pytest.raises(CorruptionError, match="'folder' is no option of fog"):
        evaluate(Bars(0), digits, corruptions=Corruptions("fog", folder=tmp_path))
    with pytest.raises(CorruptionError, match="no frost pictures in"):
        evaluate(Untouched(), digits, corruptions=Corruptions("all", folder=tmp_path))
    with pytest.raises(CorruptionError, match="no corruption is named"):
        evaluate(Bars(0), digits, corruptions=Corruptions(folder=tmp_path))
    with pytest.raises(DataError, match="there is no file"):
        evaluate(Bars(0), digits, attacks="pgd", shift={"x": tmp_path / "none.npz"})
    with pytest.raises(DataError, match=r"cifar10\.1_v6_labels\.npy .* nor cifar102_test\.npz"):
        evaluate(Bars(0), digits, shift={"x": tmp_path})
    np.savez(tmp_path / "many.npz", images=np.zeros((3, 8, 8), np.uint8), labels=np.array([0, 1, 12]))
    with pytest.raises(DataError, match="labels up to 12"):
        evaluate(Bars(0), digits, shift={"x": tmp_path / "many.npz"})
    with pytest.raises(EvaluationError, match="'c' is none of a"):
        evaluate_models({"a": Bars(0)}, digits, dense="c", corruptions="fog")
    with pytest.raises(EvaluationError, match="under corruptions only"):
        evaluate_models({"a": Bars(0)}, digits, dense="a")
