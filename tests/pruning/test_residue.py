"""What removed blocks pass on, against picking it by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from robustprune.errors import PruningError
from robustprune.pruning import RemovedBlock
from robustprune.tickets.header import Plan

KEYS = st.sampled_from(["x", "hidden", "mask_2"])
NESTED = st.recursive(
    st.builds(lambda seed: torch.randn(3, generator=torch.Generator().manual_seed(seed)), st.integers(0, 99)),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.lists(inner, min_size=1, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)
DONE = {"identity": lambda value: value, "relu": torch.relu, "zero": torch.zeros_like}


def written(value: Any, path: str, kind: str) -> tuple[Any, Any]:
    """Return the residue of a block that returns an argument leaf by leaf, and what that is."""
    if isinstance(value, (list, tuple)):
        pairs = [written(each, f"{path}.{place}", kind) for place, each in enumerate(value)]
        return type(value)(text for text, _ in pairs), type(value)(left for _, left in pairs)
    if isinstance(value, dict):
        both = {key: written(each, f"{path}.{key}", kind) for key, each in value.items()}
        return {key: text for key, (text, _) in both.items()}, {key: left for key, (_, left) in both.items()}
    return f"{kind} of {path}", DONE[kind](value)


@given(
    st.lists(NESTED, max_size=3), st.dictionaries(KEYS, NESTED, max_size=2), st.sampled_from(sorted(DONE)), st.data()
)
def test_any_argument_is_passed_on_in_any_structure(
    values: list[Any], keywords: dict[str, Any], kind: str, data: st.DataObject
) -> None:
    arguments = dict(enumerate(values)) | keywords
    if not arguments:
        return
    name = data.draw(st.sampled_from(list(arguments)))
    residue, expected = written(arguments[name], str(name), kind)
    block = RemovedBlock(residue if isinstance(residue, str) else repr(residue))
    found = block(*values, **keywords)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    # It comes back from a file as it was.
    plan = Plan.model_validate_json(Plan(method="layer", removed={"block": block.residue}).model_dump_json())
    torch.testing.assert_close(RemovedBlock(plan.removed["block"])(*values, **keywords), expected, rtol=0, atol=0)
    assert list(block.parameters()) == []


def test_constants_come_back() -> None:
    features = torch.ones(2)
    assert RemovedBlock("('identity', None, 0.5, False)")(features) == (features, None, 0.5, False)


@pytest.mark.parametrize(
    "residue",
    [
        "",
        "nothing",
        "identity of",
        "identity of a b",
        "('relu',",
        "[print()]",
        "{'x': 'gone'}",
        "('identity', b'x')",
        "7",
    ],
)
def test_what_says_nothing_is_refused(residue: str) -> None:
    with pytest.raises(PruningError, match="does not say what remains"):
        RemovedBlock(residue)
    with pytest.raises(ValidationError, match="does not say what remains"):
        Plan(method="layer", removed={"block": residue})
