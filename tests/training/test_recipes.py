from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustprune.attacks import parse_epsilon
from robustprune.errors import TrainingError
from robustprune.training import Recipe


def test_paper_recipe_divides_by_ten_at_epochs_100_and_150() -> None:
    recipe = Recipe("paper")
    assert (recipe.epochs, recipe.batch_size) == (200, 128)
    rates = [recipe.learning_rate_at(epoch / 200) for epoch in range(200)]
    assert rates[:100] == [0.01] * 100
    assert rates[100:150] == pytest.approx([0.001] * 50)
    assert rates[150:] == pytest.approx([0.0001] * 50)


def test_one_cycle_rises_to_its_peak_and_falls_to_nearly_nothing() -> None:
    recipe = Recipe("quick", learning_rate=0.2)
    rates = [recipe.learning_rate_at(step / 1000) for step in range(1000)]
    peak = rates.index(max(rates))
    assert rates[0] == pytest.approx(0.2 / 25)
    assert rates[peak] == pytest.approx(0.2)
    assert peak == 250
    assert rates[:251] == sorted(rates[:251])
    assert rates[250:] == sorted(rates[250:], reverse=True)
    assert rates[-1] < 1e-4


def test_a_name_fills_in_what_is_not_given() -> None:
    assert Recipe() == Recipe("quick") == Recipe.of("quick") == Recipe.of({"name": "quick"})
    assert Recipe.of({"name": "paper", "epochs": 3}) == Recipe("paper", epochs=3) == Recipe.of("paper", epochs=3)
    shorter = Recipe("paper", epochs=3, momentum=0.5)
    assert Recipe.of(shorter) is shorter
    assert Recipe.of(shorter, batch_size=64, epochs=None) == Recipe("paper", epochs=3, momentum=0.5, batch_size=64)
    assert Recipe("mine", epochs=1, batch_size=8, learning_rate=0.5).momentum == 0.9


def test_none_leaves_the_recipe_as_it_is() -> None:
    assert Recipe("quick", epochs=None, batch_size=64).model_dump() == Recipe("quick").model_dump() | {"batch_size": 64}


@given(st.integers(0, 255), st.integers(1, 255), st.sampled_from(["{}/{}", " {} / {} ", "{}.0/{}"]))
def test_a_budget_is_read_as_evaluations_read_it(above: int, below: int, form: str) -> None:
    wanted = above / max(above, below)
    text = form.format(above, max(above, below))
    for value in (text, wanted, str(wanted), Fraction(above, max(above, below))):
        recipe = Recipe("quick", adversarial="pgd", epsilon=value)
        assert recipe.epsilon == pytest.approx(parse_epsilon(value)) == pytest.approx(wanted)
        assert Recipe.model_validate(recipe.model_dump()) == recipe


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("quick", {"epsilon": "8"}, r"epsilon: .*forgot /255\? Write 8/255"),
        ("quick", {"epsilon": "8/0"}, "epsilon: .*a fraction such as '8/255'"),
        ("quick", {"epsilon": -0.1}, "epsilon: .*at least 0, got -0.1"),
        ("quick", {"epsilon": float("nan")}, "epsilon: .*finite"),
        ("quick", {"epsilon": True}, "epsilon: it takes no true or false"),
        ("quik", {}, "Did you mean 'quick'"),
        ("quick", {"epoch": 3}, "no setting 'epoch'. Did you mean 'epochs'"),
        ("quick", {"epochs": 0}, "epochs: .* not 0"),
        ("quick", {"batch_size": 1}, "batch_size: .* not 1"),
    ],
)
def test_what_is_wrong_is_said(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Recipe(name, **overrides)
