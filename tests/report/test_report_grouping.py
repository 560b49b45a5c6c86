from __future__ import annotations

from typing import Any

import pytest

from robustprune.errors import ReportError
from robustprune.records import Record
from robustprune.report.grouping import fullest, group_records, make_group, name_method


def changed(record: Record, *, dataset: str | None = None, recipe: dict[str, Any] | None = None, **plan: Any) -> Record:
    copy = record.model_copy(deep=True)
    copy.model.plan |= plan
    copy.dataset = dataset or copy.dataset
    copy.model.training |= {"recipe": recipe} if recipe else {}
    return copy


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(
    ("plan", "name"),
    [
        ({"method": "none"}, "dense"),
        ({"method": "layer", "removed": {"a": "identity"}}, "layer ticket (l1, 1 block)"),
        ({"method": "layer", "removed": {"a": "identity", "b": "identity"}}, "layer ticket (l1, 2 blocks)"),
        (
            {"method": "layer", "removed": {"a": "identity"}, "rewound_to": 5},
            "layer ticket (l1, 1 block, rewound to 5)",
        ),
        (
            {"method": "filter", "removed": {}, "removed_filters": {"c": [1, 2], "d": [0]}, "match": None},
            "filter ticket (l1, 3 filters)",
        ),
        (
            {
                "method": "filter",
                "removed_filters": {"c": [1]},
                "variant": "uniform",
                "match": {"removed": ["a", "b"], "by": "macs"},
            },
            "filter ticket (l1, uniform, matched to 2 blocks)",
        ),
        ({"method": "weight", "sparsity": 0.9}, "masked weights (l1, 90 %)"),
    ],
)
def test_methods_are_named_by_what_was_done(records: dict[str, Record], plan: dict[str, Any], name: str) -> None:
    assert name_method(changed(records["l1"], **plan)) == name


def test_only_like_is_compared_with_like(records: dict[str, Record]) -> None:
    elsewhere = [changed(record, dataset="svhn") for record in records.values()]
    robust = [changed(record, recipe={"adversarial": "pgd", "augmentation": "standard"}) for record in records.values()]
    groups = group_records([*records.values(), *elsewhere, *robust])
    titles = ["resnet20 on digits", "resnet20 on digits, trained with pgd", "resnet20 on svhn"]
    assert [group.title for group in groups] == titles
    for group in groups:
        assert list(group.records) == ["dense", "layer ticket (l1, 2 blocks)", "layer ticket (random, 2 blocks)"]
        assert list(group.candidates) == ["layer ticket (l1, 2 blocks)", "layer ticket (random, 2 blocks)"]
        assert all(len(found) == 1 for found in group.records.values())


def test_seeds_of_a_method_are_together(records: dict[str, Record]) -> None:
    other = [record.model_copy(deep=True) for record in records.values()]
    for record in other:
        record.model.sha256 = record.model.sha256[::-1]
    (group,) = group_records([*records.values(), *other])
    assert [len(found) for found in group.records.values()] == [2, 2, 2]


def test_what_another_record_of_the_same_network_has_is_left_out(records: dict[str, Record]) -> None:
    bare = [record.model_copy(deep=True) for record in records.values()]
    for record in bare:
        record.attacks, record.corruptions, record.ood, record.shift = [], None, [], []
        record.model.latency_ms = None
    for given in ([*records.values(), *bare], [*bare, *records.values()], [*records.values(), *records.values()]):
        (group,) = group_records(given)
        assert [each for (each,) in group.records.values()] == [records[name] for name in ("dense", "l1", "random")]
    # One with something of its own stays, and is then refused as a second record of one network.
    bare[0].model.latency_ms = {"median": 1.0}
    records["dense"].model.latency_ms = None
    (group,) = group_records([*records.values(), bare[0]])
    assert len(group.records["dense"]) == 2


def test_a_record_with_other_corruptions_is_not_left_out(records: dict[str, Record]) -> None:
    fewer = {name: record.model_copy(deep=True) for name, record in records.items()}
    for record in fewer.values():
        assert record.corruptions is not None
        record.corruptions.table = dict(list(record.corruptions.table.items())[:1])
        record.corruptions.source = "made"
    more = [record.model_copy(deep=True) for record in fewer.values()]
    for record in more:
        assert record.corruptions is not None
        record.corruptions.table |= {"another": [0.5] * 5}
    assert fullest([*fewer.values(), *more]) == fullest([*more, *fewer.values()]) == more


def test_ways_of_one_name_are_told_apart_by_what_they_differ_in(records: dict[str, Record]) -> None:
    l1 = records["l1"]
    other = [
        changed(l1, options={"reduction": "another"}),
        changed(l1, eligibility="identity"),
        changed(l1, recipe={**l1.model.training["recipe"], "epochs": 99}),
        changed(l1),
    ]
    other[-1].model.earlier_training = [] if l1.model.earlier_training else [{"epochs": 1}]
    for each in other:
        (group,) = group_records([*records.values(), each])
        assert len(group.candidates) == 3
        assert all(len(found) == 1 for found in group.records.values())  # so that they can be compared
        assert sum("layer ticket (l1, 2 blocks), " in name for name in group.candidates) == 2
        assert "layer ticket (random, 2 blocks)" in group.candidates
    (group,) = group_records([*records.values(), other[1]])
    assert "layer ticket (l1, 2 blocks), eligibility identity" in group.candidates


def test_each_recipe_of_dense_networks_makes_a_part_of_its_own(records: dict[str, Record]) -> None:
    longer = [changed(r, recipe={**r.model.training["recipe"], "epochs": 99}) for r in records.values()]
    short = records["dense"].model.training["recipe"]["epochs"]
    groups = group_records([*records.values(), *longer])
    assert [group.title for group in groups] == [f"resnet20 on digits, epochs {epochs}" for epochs in (short, 99)]
    assert all(len(found) == 1 for group in groups for found in group.records.values())
    # A ticket that alone was trained otherwise is still compared with the dense network that there is.
    (group,) = group_records([records["dense"], longer[1]])
    assert len(group.candidates) == 1


def test_networks_shown_other_images_make_a_part_of_their_own(records: dict[str, Record]) -> None:
    fewer = [record.model_copy(deep=True) for record in records.values()]
    for record in fewer:
        record.samples_sha256, record.n = "f" * 64, 7
    groups = group_records([*records.values(), *fewer])
    n = records["dense"].n
    assert [group.title for group in groups] == sorted(
        [f"resnet20 on digits, {n:,} images", "resnet20 on digits, 7 images"]
    )
    for record in fewer:
        record.n = n
    titles = [group.title for group in group_records([*records.values(), *fewer])]
    assert f"resnet20 on digits, {n:,} images (ffffffff)" in titles
    assert len(set(titles)) == 2


def test_given_names_and_their_order_are_kept(records: dict[str, Record]) -> None:
    group = make_group({"z": [records["l1"]], "dense": [records["dense"]], "a": [records["random"]]})
    assert list(group.records) == ["dense", "z", "a"]


def test_what_makes_no_comparison(records: dict[str, Record]) -> None:
    with pytest.raises(
        ReportError, match=r"no record of a dense network to compare layer ticket .l1, 2 blocks. with.*dense=FILE"
    ):
        group_records([records["l1"]])
    with pytest.raises(ReportError, match="no record of a pruned network"):
        group_records([records["dense"]])
