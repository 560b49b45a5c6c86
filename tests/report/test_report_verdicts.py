"""The table of verdicts."""

from __future__ import annotations

from synthetic_records import make_record

from robustprune.comparison import compare
from robustprune.report.verdicts import verdict_matrix


def test_the_strongest_attack_has_a_column_though_it_failed_on_a_candidate() -> None:
    attacks = (("fgsm", 8 / 255), ("pgd", 8 / 255))
    dense, bad, good = (make_record(kind=kind, attacks=attacks) for kind in ("dense", "bad", "good"))
    for record, shares in ((dense, (0.6, 0.4)), (bad, (0.6, 0.9)), (good, (0.6, 0.4))):
        for entry, share in zip(record.attacks, shares, strict=True):
            entry.robust_accuracy = share
    bad.attacks[1].valid = False
    found = verdict_matrix(compare(dense, {"bad": bad, "good": good}), {"dense": 1, "bad": 1, "good": 1}, "s1")
    place = [column.text for column in found["columns"]].index("pgd L∞ 8/255")
    reference, failed, sound = (row["cells"][place] for row in found["rows"])
    assert reference["value"] == "40.0 %"
    assert failed["verdict"].kind == "invalid"
    assert sound["verdict"].kind in ("better", "equivalent", "no-worse", "undecided", "worse")
