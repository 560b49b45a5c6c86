from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from synthetic_records import make_record

from robustprune.attacks import OptimalityEntry
from robustprune.comparison import compare
from robustprune.corruptions import EXTRAS, HEADLINE
from robustprune.data import ImageData
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.records import Record
from robustprune.report.figures import FIGURES, draw_all
from robustprune.report.figures.drawing import Drawing
from robustprune.report.figures.ood_detection import roc_curve
from robustprune.report.figures.tradeoff import pareto_front

Groups = dict[str, list[Record]]
ALL = {
    *("accuracy-against-cost", "costs", "robust-accuracy", "corruptions", "ood-1-svhn", "risk-coverage", "calibration"),
    *("mean-ranks", "block-scores", "training", "energy", "adversarial-images"),
}


@pytest.fixture(scope="module")
def drawings(groups: Groups) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in draw_all(groups)}


def rows(drawing: Drawing, **wanted: Any) -> list[dict[str, Any]]:
    """Return the rows of the table behind a figure that hold some values."""
    assert drawing.data is not None
    named = [dict(zip(drawing.data.columns, row, strict=True)) for row in drawing.data.rows]
    return [row for row in named if all(row[name] == value for name, value in wanted.items())]


def test_all_that_there_is_data_for(groups: Groups, drawings: dict[str, Drawing]) -> None:
    assert drawings.keys() == ALL
    left: dict[str, str] = {}
    list(draw_all(groups, left_out=left))
    assert left.keys() == {"corrupted images"}  # of a set that is nowhere
    for drawing in drawings.values():
        assert drawing.title
        assert drawing.caption.endswith(".")
        assert drawing.alt.endswith(".")


def test_what_is_missing_is_said() -> None:
    bare = {name: [make_record(kind=name, attacks=())] for name in ("dense", "other")}
    for records in bare.values():
        records[0].samples = None
        records[0].model.training = {}
    left: dict[str, str] = {}
    found = [drawing.name for drawing in draw_all(bare, left_out=left)]
    assert found == ["accuracy-against-cost", "costs"]
    assert len(left) == len(FIGURES) - 2
    assert all(len(reason) > 20 for reason in left.values())


def test_mean_ranks(groups: Groups, drawings: dict[str, Drawing]) -> None:
    drawing, names = drawings["mean-ranks"], list(groups)
    accuracies = [[record.clean.accuracy for record in groups[name]] for name in names]
    expected = stats.rankdata(-np.array(accuracies), axis=0).mean(axis=1)
    assert drawing.data is not None
    assert {row[0]: row[1] for row in drawing.data.rows} == pytest.approx(dict(zip(names, expected, strict=True)))
    assert "Nemenyi" in drawing.caption


def test_accuracy_against_cost(groups: Groups, drawings: dict[str, Drawing]) -> None:
    drawing = drawings["accuracy-against-cost"]
    (found,) = rows(drawing, network="good", metric="accuracy")
    accuracies = [100 * record.clean.accuracy for record in groups["good"]]
    assert found["MACs saved (%)"] == pytest.approx(30)
    assert found["mean (%)"] == pytest.approx(np.mean(accuracies))
    half = stats.t.ppf(0.975, 2) * np.std(accuracies, ddof=1) / np.sqrt(3)
    assert found["high (%)"] - found["low (%)"] == pytest.approx(2 * half)
    # The budget where the dense network is nearest to half: the larger one, under the stronger attack.
    left, right = drawing.figure.axes
    assert "8/255" in right.get_title(loc="left")
    dots = [line.get_xdata() for line in left.lines if line.get_markersize() == 2]
    assert [list(np.asarray(each)) for each in dots] == [pytest.approx([x] * 3) for x in (0, 30, 20)]
    assert "Pareto front: good." in drawing.alt


def test_pareto_front_by_hand() -> None:
    points = {"a": (0.0, 90.0), "b": (10.0, 95.0), "c": (20.0, 95.0), "d": (30.0, 80.0), "e": (30.0, 79.0)}
    assert pareto_front(points) == ["c", "d"]
    assert pareto_front({"a": (0.0, 1.0), "b": (0.0, 1.0)}) == ["a", "b"]  # alike: neither beats the other


def test_security_curves(groups: Groups, drawings: dict[str, Drawing]) -> None:
    drawing = drawings["robust-accuracy"]
    fractions = {4 / 255: 1, 8 / 255: 2}
    for epsilon, entry in fractions.items():
        (found,) = rows(drawing, network="bad", attack="pgd (L∞)", ε=pytest.approx(epsilon))
        robust = [100 * float((~(r.samples or {})[f"attack{entry}_broken"]).mean()) for r in groups["bad"]]
        assert found["accuracy (%)"] == pytest.approx(np.mean(robust))
    (clean,) = rows(drawing, network="bad", attack="pgd (L∞)", ε=0.0)
    assert clean["accuracy (%)"] == pytest.approx(100 * np.mean([r.clean.accuracy for r in groups["bad"]]))
    panel = drawing.figure.axes[0]
    assert panel.get_title(loc="left") == "pgd (L∞)"
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0", "4/255", "8/255"]
    line = next(line for line in panel.lines if len(np.asarray(line.get_xdata())) == 3 and line.get_markersize() == 3)
    assert np.asarray(line.get_ydata())[0] == pytest.approx(100 * np.mean([r.clean.accuracy for r in groups["dense"]]))


def test_a_minimum_norm_attack_is_drawn_at_all_budgets(groups: Groups) -> None:
    changed = {name: [record.model_copy(deep=True) for record in records] for name, records in groups.items()}
    generator = np.random.default_rng(0)
    for records in changed.values():
        for record in records:
            assert record.samples is not None
            wrong = record.samples["clean_prediction"] != record.samples["label"]
            distances = np.where(wrong, 0, generator.exponential(0.1, record.n)).astype(np.float32)
            record.samples["attack2_distance"] = distances
            entries = [OptimalityEntry(name=name, norm="linf", optimality=1, nearest=0.9) for name in ("pgd", "fgsm")]
            record.optimality = entries
    curves = next(each for each in draw_all(changed) if each.name == "robust-accuracy")
    drawn = rows(curves, network="bad", attack="pgd (L∞)")
    assert len(drawn) == 51
    for found in drawn:
        farther = [(r.samples or {})["attack2_distance"] > found["ε"] for r in changed["bad"]]
        assert found["accuracy (%)"] == pytest.approx(100 * np.mean(farther))
    assert "L∞: pgd comes closest (optimality 1.000), yet on 10.0 % of the broken images another" in curves.alt
    assert len(rows(curves, network="bad", attack="fgsm (L∞)")) == 2


def test_numbers_that_failed_a_check_are_not_drawn(groups: Groups) -> None:
    changed = {name: [record.model_copy(deep=True) for record in records] for name, records in groups.items()}
    changed["good"][1].attacks[2].valid = False
    curves = next(each for each in draw_all(changed) if each.name == "robust-accuracy")
    assert rows(curves, network="good", attack="pgd (L∞)", ε=pytest.approx(8 / 255)) == []
    assert len(rows(curves, network="dense", attack="pgd (L∞)")) == 3
    assert "Left out, as they failed a check: good, pgd (L∞) at ε = 8/255" in curves.caption


def test_corruptions_are_differences(groups: Groups, drawings: dict[str, Drawing]) -> None:
    def mean(name: str) -> float:
        return 100 * float(np.mean([r.corruptions.table["fog"][2] for r in groups[name] if r.corruptions]))

    (found,) = rows(drawings["corruptions"], network="bad", corruption="fog", severity=3)
    assert found["dense (%)"] == pytest.approx(mean("dense"))
    assert found["difference (pp)"] == pytest.approx(mean("bad") - mean("dense"))
    dense, *others = drawings["corruptions"].figure.axes
    assert [label.get_text() for label in dense.get_yticklabels()][9::6] == ["fog", "mean"]
    for panel in others:
        low, high = panel.collections[0].get_clim()
        assert low == -high  # no difference is the middle of the colours
        values = np.asarray(panel.collections[0].get_array())
        assert values.shape == (16, 5)
        assert values[-1] == pytest.approx(values[:-1].mean(axis=0))
        assert len(panel.texts) == 80


def test_roc_against_scikit_learn(groups: Groups, drawings: dict[str, Drawing]) -> None:
    random = np.random.default_rng(0)
    inside, outside = random.integers(0, 9, 50) / 4, random.integers(3, 12, 30) / 4  # with ties
    area = np.trapezoid(roc_curve(inside, outside)[1], roc_curve(inside, outside)[0])
    assert area == pytest.approx(roc_auc_score([0] * 50 + [1] * 30, [*inside, *outside]))
    samples = [record.samples or {} for record in groups["good"]]
    areas = [roc_auc_score([0] * 200 + [1] * 200, [*s["ood_in_knn"], *s["ood0_knn"]]) for s in samples]
    (found,) = rows(drawings["ood-1-svhn"], network="good", detector="knn")
    assert found["AUROC (%)"] == pytest.approx(100 * np.mean(areas))
    panel = drawings["ood-1-svhn"].figure.axes[0]
    assert panel.get_title(loc="left") == "energy"  # the best known first
    for line in panel.lines:
        assert (np.diff(np.asarray(line.get_ydata())) >= 0).all()


def test_risk_by_hand(groups: Groups, drawings: dict[str, Drawing]) -> None:
    risks = []
    for samples in ((record.samples or {}) for record in groups["dense"]):
        surest = np.argsort(-samples["confidence"], kind="stable")[:100]
        risks.append(100 * float((samples["clean_prediction"] != samples["label"])[surest].mean()))
    (found,) = rows(drawings["risk-coverage"], network="dense", **{"coverage (%)": pytest.approx(50)})
    assert found["risk (%)"] == pytest.approx(np.mean(risks), abs=0.3)  # between two images


def test_reliability_by_hand(groups: Groups, drawings: dict[str, Drawing]) -> None:
    samples = [record.samples or {} for record in groups["good"]]
    confidence = np.concatenate([each["confidence"] for each in samples]).astype(float)
    right = np.concatenate([each["clean_prediction"] == each["label"] for each in samples])
    expected = []
    for number in range(15):
        inside = (confidence >= number / 15) & ((confidence < (number + 1) / 15) | (number == 14))
        if inside.sum() >= 10:
            expected.append((100 * confidence[inside].mean(), 100 * right[inside].mean(), inside.sum()))
    found = rows(drawings["calibration"], network="good")
    assert len(found) == len(expected) > 4
    for row, (sure, is_right, images) in zip(found, expected, strict=True):
        assert row["images"] == images
        assert row["confidence (%)"] == pytest.approx(sure)
        assert row["accuracy (%)"] == pytest.approx(is_right)


def test_removed_blocks_are_hatched(drawings: dict[str, Drawing]) -> None:
    drawing = drawings["block-scores"]
    assert [axes.get_title(loc="left") for axes in drawing.figure.axes] == ["good", "bad"]
    assert "good: layer1.1 (3 of 3)" in drawing.alt
    panel = drawing.figure.axes[0]
    hatched = [place for place, bar in enumerate(panel.patches[:9]) if bar.get_hatch()]
    assert hatched == [1]
    assert [bar.get_height() for bar in panel.patches[:9]] == [0, 1, 2, 3, 4, 5, 6, 7, 8]  # type: ignore[attr-defined]
    assert [label.get_text() for label in panel.get_xticklabels()][:3] == ["1.0", "1.1\n3/3", "1.2"]


def test_training_and_energy(groups: Groups, drawings: dict[str, Drawing]) -> None:
    (found,) = rows(drawings["training"], network="good", metric="Validation accuracy (%)", epoch=5)
    assert found["mean"] == pytest.approx(100 * (0.92 - 0.04))
    (energy,) = rows(drawings["energy"], network="dense", quantity="Energy (Wh)")
    assert energy["mean"] == pytest.approx(10)
    (carbon,) = rows(drawings["energy"], network="dense", quantity="CO₂ (g)")
    assert carbon["mean"] == pytest.approx(4)
    (memory,) = rows(drawings["costs"], network="good", cost="memory in training")
    assert memory["median (%)"] == pytest.approx(70)
    (latency,) = rows(drawings["costs"], network="bad", cost="latency, 1 image")
    assert latency["median (%)"] == pytest.approx(80)


@pytest.mark.slow
def test_trainings_on_another_device_are_not_set_against_each_other(groups: Groups) -> None:
    groups = copy.deepcopy(groups)
    for record in groups["good"]:
        record.model.training["device"] = "cuda"
    drawn = {drawing.name: drawing for drawing in draw_all(groups)}
    for cost, others in {"training time": ["bad"], "energy": ["bad"], "memory in training": ["good", "bad"]}.items():
        assert [row["network"] for row in rows(drawn["costs"], cost=cost)] == others
    assert len(rows(drawn["energy"], network="good")) == 3
    assert [len(panel.texts) for panel in drawn["energy"].figure.axes] == [1, 1, 1]  # of "bad" alone


def test_adversarial_images(groups: Groups, drawings: dict[str, Drawing]) -> None:
    drawing = drawings["adversarial-images"]
    samples = groups["dense"][0].samples or {}
    images = [image for axes in drawing.figure.axes for image in axes.images]
    assert len(images) == 2 * 3 * 3  # kinds, rows, images
    clean, adversarial = np.asarray(images[0].get_array())[::8, ::8, 0], np.asarray(images[6].get_array())[::8, ::8, 0]
    np.testing.assert_array_equal(clean, samples["gallery2_clean"][0, 0])
    changed = np.clip(clean / 255 + samples["gallery2_perturbation"][0, 0].astype(float), 0, 1)
    assert abs(adversarial / 255 - changed).max() <= 0.5 / 255 + 1e-6
    at = samples["gallery2_index"][0]
    assert f"class {samples['label'][at]} as class {samples['attack2_prediction'][at]}" in drawing.alt
    assert any(axes.get_ylabel() == "perturbation × 10" for axes in drawing.figure.axes)  # 10 · 0.03 < 0.5 < 20 · 0.03


def test_corrupted_images_are_made_anew(few_digits: ImageData) -> None:
    network = build_model("resnet20", few_digits, width=4)
    record = evaluate(network, few_digits, corruptions=["fog", "contrast"], limit=10, seed=3)
    drawing = list(draw_all({"dense": [record]}))[-1]
    assert drawing.name == "corrupted-images"
    index = int((record.samples or {})["index"][0])
    image = np.asarray(drawing.figure.axes[0].images[0].get_array())[::8, ::8, 0]
    np.testing.assert_array_equal(image, few_digits.require("test").images[index, 0].numpy())
    assert "fog, contrast" in drawing.alt


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.data.update(name="npz:/nowhere.npz"),
        lambda record: record.data.update(download=True),
        lambda record: record.samples.update(label=(record.samples["label"] + 1) % 10),
        lambda record: record.samples.update(index=record.samples["index"] + 100_000),
    ],
    ids=["gone", "may not download", "another set", "smaller set"],
)
def test_corrupted_images_that_cannot_be_had_again(few_digits: ImageData, change: Callable[[Record], None]) -> None:
    network = build_model("resnet20", few_digits, width=4)
    record = evaluate(network, few_digits, corruptions=["fog"], limit=10)
    change(record)
    left: dict[str, str] = {}
    assert "corrupted-images" not in [drawing.name for drawing in draw_all({"dense": [record]}, left_out=left)]
    assert "digits" in left["corrupted images"]


@pytest.mark.slow
def test_forty_kinds_are_not_all_drawn(groups: Groups) -> None:
    many: Groups = {"dense": groups["dense"][:1]}
    many |= {f"candidate {n}": [make_record(kind=f"c{n}", accuracy=0.5 + n / 100, macs=900 - n)] for n in range(39)}
    for drawing in draw_all(many):
        drawn = {text.get_text() for legend in drawing.figure.legends for text in legend.get_texts()}
        assert len({text for text in drawn if text.startswith("candidate")}) <= 6
        assert "6 of 39 kinds" in drawing.caption
    curves = next(each for each in draw_all(many) if each.name == "robust-accuracy")
    best = sorted(many, key=lambda name: -many[name][0].clean.accuracy)
    assert {row["network"] for row in rows(curves)} == {"dense", *[name for name in best if name != "dense"][:6]}


@pytest.mark.slow
def test_names_are_data(groups: Groups) -> None:
    strange = r"$\frac{1}{0}$ <script> & _x_ 100%"
    named = {"dense": groups["dense"], strange: groups["good"]}
    for drawing in draw_all(named):
        drawing.figure.draw_without_rendering()
        for axes in drawing.figure.axes:
            assert not any(text.get_parse_math() for text in axes.texts)
    assert any(strange in drawing.alt for drawing in draw_all(named))


def test_the_users_settings_of_matplotlib_are_left_alone(groups: Groups) -> None:
    with mpl.rc_context({"font.size": 31, "axes.grid": True, "lines.linewidth": 9}):
        before = dict(mpl.rcParams)
        drawing = next(draw_all(groups))
        assert dict(mpl.rcParams) == before
    assert drawing.figure.axes[0].xaxis.label.get_fontsize() == 7.5


@pytest.mark.slow
def test_long_names_are_whole_in_tables_and_short_beside_rows(groups: Groups) -> None:
    long = "a" * 60 + "tail"
    drawn = {drawing.name: drawing for drawing in draw_all({"dense": groups["dense"], long: groups["good"]})}
    assert {row["network"] for row in rows(drawn["energy"])} == {"dense", long}
    labels = [label.get_text() for label in drawn["energy"].figure.axes[0].get_yticklabels()]
    assert labels == ["dense", "a" * 26 + "…" + "a" * 5 + "tail"]
    named = [text.get_text() for legend in drawn["robust-accuracy"].figure.legends for text in legend.get_texts()]
    assert named == ["dense", long]


def test_histories_without_accuracy_are_drawn_and_told(groups: Groups) -> None:
    bare = {name: [record.model_copy(deep=True) for record in records] for name, records in groups.items()}
    for record in (record for records in bare.values() for record in records):
        for entry in record.model.history:
            del entry["validation_accuracy"]
    drawn = next(drawing for drawing in draw_all(bare) if drawing.name == "training")
    # 2 / epoch, after five epochs.
    assert "dense: a training loss of 0.4 after 5 epochs" in drawn.alt
    assert "alidation" not in drawn.alt + drawn.caption
    for record in (record for records in bare.values() for record in records):
        record.model.history = [{"epoch": entry["epoch"]} for entry in record.model.history]
    left: dict[str, str] = {}
    assert "training" not in {drawing.name for drawing in draw_all(bare, left_out=left)}
    assert "histories" in left["training"]


def test_a_mean_over_corruptions_is_that_of_comparisons() -> None:
    found = {
        name: [make_record(kind=name, accuracy=share, corruptions=(*HEADLINE, *EXTRAS))]
        for name, share in {"dense": 0.9, "layer": 0.7}.items()
    }
    for record, share in ((found["dense"][0], 0.0), (found["layer"][0], 1.0)):
        assert record.corruptions is not None
        record.corruptions.table |= {name: [share] * 5 for name in EXTRAS}
    (row,) = [each for each in compare(found["dense"], {"layer": found["layer"]}).rows if each.group == "corruptions"]
    drawn = next(drawing for drawing in draw_all(found) if drawing.name == "corruptions")
    assert f"layer: {row.difference:+.1f} points on average".replace("-", "−") in drawn.alt
    assert "last row: mean over the 15 corruptions of the benchmark" in drawn.caption
