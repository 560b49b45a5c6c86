"""What is asked for, as values: checked once, the same in Python, YAML and records."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from robustprune.attacks.requests import Attack, Attacks
from robustprune.corruptions.requests import Corruptions
from robustprune.errors import AttackError, CorruptionError, EvaluationError, PruningError, RobustPruneError
from robustprune.evaluation.requests import Evaluation, Shift
from robustprune.inference.requests import Certify
from robustprune.ood.requests import OOD
from robustprune.runtime.requests import Request
from robustprune.tickets.requests import Pruning

EVERY: list[Request] = [
    Attack("pgd", epsilon="8/255", steps=40),
    Attacks(["fgsm", "pgd"], epsilons=["2/255", 8 / 255], restarts=2, steps=3),
    Corruptions(["fog", "frost"], folder="pictures"),
    OOD(["near", "noise"], detectors=["energy", "msp"], attack_epsilons="1/255,2/255"),
    Shift({"cifar10.2": "npz:shifted.npz"}),
    Certify(0.25, n=500, radii="0+0.5"),
    Pruning("weight", criterion="synflow", sparsity=0.9),
    Evaluation(attacks="pgd", corruptions="all", ood=["near"], shift={"mine": "imagefolder:x"}, limit=50),
]


@pytest.mark.parametrize("request_", EVERY, ids=lambda each: type(each).__name__)
def test_a_request_is_the_same_after_a_file(request_: Request) -> None:
    kept = json.loads(json.dumps(request_.model_dump(mode="json")))
    assert type(request_)(**kept) == request_
    assert type(request_).of(kept) == request_
    assert type(request_).of(request_) is request_


def test_a_bare_value_stands_for_the_first_field() -> None:
    assert Attacks.of("pgd") == Attacks(["pgd"]) == Attacks.of(["pgd"]) == Attacks.of({"names": ["pgd"]})
    assert Evaluation(attacks="pgd", ood="svhn") == Evaluation(attacks=Attacks("pgd"), ood=OOD(["svhn"]))
    assert Shift.of({"a": "npz:b"}) == Shift(sets={"a": "npz:b"})
    assert Evaluation(certify=0.25) == Evaluation(certify={"sigma": 0.25}) == Evaluation(certify=Certify(0.25))


def test_lengths_are_numbers_from_the_start() -> None:
    assert Attacks("pgd", epsilons="2/255, 8/255").epsilons == (2 / 255, 8 / 255)
    assert Attack("pgd", epsilon="0.03").epsilon == 0.03
    assert Attack("pgd", epsilon="3", norm="l2").epsilon == 3.0


def test_further_keywords_are_options_of_the_plug_in() -> None:
    assert Attack("pgd", steps=40).options == {"steps": 40}
    assert Evaluation(attacks={"names": ["pgd"], "steps": 4}).attacks.options == {"steps": 4}


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Attacks("pgd", epsilons="x"), AttackError, "got 'x'"),
        (lambda: Attacks("pgd", epsilons=[8]), AttackError, "8/255"),
        (lambda: Attack("pgd", norm="l3"), AttackError, "no norm called 'l3'"),
        (lambda: Attack("pgd", restarts=0), AttackError, "restarts: .*1, not 0"),
        (lambda: Attacks(""), AttackError, "names: it is empty"),
        (lambda: Attacks("pgd", union="perhaps"), AttackError, "union: "),
        (lambda: Corruptions("fog", published=True), CorruptionError, "published: it takes no true or false"),
        (lambda: Evaluation(attack="pgd"), EvaluationError, "no setting 'attack'. Did you mean 'attacks'"),
        (lambda: Evaluation(attacks={"names": "pgd", "restarts": 0}), AttackError, "attacks.restarts: "),
        (lambda: Evaluation(ood={"sets": ["noise"], "fit": 3}), EvaluationError, "ood: there is no setting 'fit'"),
        (lambda: Pruning("layers"), PruningError, "method: "),
    ],
)
def test_what_makes_no_sense_is_said_where_it_is(
    make: Callable[[], Request], error: type[RobustPruneError], said: str
) -> None:
    with pytest.raises(error, match=said):
        make()


def test_requests_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Attacks("pgd").restarts = 3  # type: ignore[misc]
