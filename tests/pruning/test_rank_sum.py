"""Criteria that are joined by a plus: ranks by hand, and names with options of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_networks import few_images, small_network
from support import Run, check_failure

from robustprune.data import ImageData
from robustprune.errors import PruningError, UnknownNameError
from robustprune.pruning import make_criterion, named_criterion, score_blocks, score_filters
from robustprune.pruning.criteria.by_name import criterion_files
from robustprune.pruning.criteria.rank_sum import sum_ranks
from robustprune.registry import split_joined, split_names
from robustprune.runtime.work import Work
from robustprune.tickets.requests import Pruning

OWN = """
from robustprune.pruning import Criterion

class Depth(Criterion):
    factor: int = 1

    def score(self, model, blocks, data, seed):
        return {block.name: self.factor * block.depth for block in blocks}
"""


def test_ranks_with_ties_by_hand() -> None:
    scores = [{"a": 0.5, "b": -3.0, "c": 0.5, "d": 70.0}, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}]
    # By the first, a and c share ranks 2 and 3; by the second, all share 1 to 4.
    assert sum_ranks(scores[:1]) == {"a": 2.5, "b": 1.0, "c": 2.5, "d": 4.0}
    assert sum_ranks(scores) == {"a": 5.0, "b": 3.5, "c": 5.0, "d": 6.5}
    assert sum_ranks([{"a": 1.0, "b": float("inf")}])["a"] != sum_ranks([{"a": 1.0, "b": 2.0}])["a"]  # not a number


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["maps", "tokens"])
def test_the_sum_is_of_the_ranks_of_each(few_digits: ImageData, kind: str, seed: int) -> None:
    data, network = few_images(few_digits), small_network(kind, few_digits, seed)
    alone = [score_blocks(network, data, name, seed=seed) for name in ("l1", "bi:samples=12", "expected_abs")]
    together = score_blocks(network, data, "l1+bi:samples=12+expected_abs", seed=seed)
    orders = [sorted(scores, key=scores.__getitem__) for scores in alone]
    assert together == {name: sum(1 + order.index(name) for order in orders) for name in alone[0]}
    assert together.criterion == "l1+bi:samples=12+expected_abs"
    assert together.options["parts"]["bi:samples=12"]["samples"] == 12
    # A ticket records name and options, and they give the same scores.
    assert score_blocks(network, data, together.criterion, seed=seed, **together.options) == together


def test_progress_is_that_of_all_of_them(few_digits: ImageData) -> None:
    data, network = few_images(few_digits), small_network("tokens", few_digits, 0)
    told: list[tuple[float, float]] = []
    work = Work(progress=lambda what, done, total: told.append((done, total)) if what.startswith("scoring") else None)
    score_blocks(network, data, "bi+random", seed=2, batch_size=10, work=work)
    done = [part for part, _ in told]
    assert done == sorted(done)
    assert {1 / 3, 2 / 3, 1} < set(done)
    assert told[-1] == (2, 2)


def test_options_apart_from_the_names_go_to_those_that_take_them() -> None:
    parts = make_criterion("grasp:batch_size=32+cka+random", batch_size=16, samples=50).parts
    assert [parts[name].get("batch_size") for name in parts] == [32, 16, None]
    assert parts["cka"]["samples"] == 50
    assert "samples" not in parts["grasp:batch_size=32"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("cka+cka", PruningError, "'cka' is joined with itself"),
        ("cka+grap", UnknownNameError, "Did you mean 'grasp'"),
        ("cka+grasp:temperatur=2", PruningError, "Did you mean 'temperature'"),
        ("cka+", UnknownNameError, "Did you mean 'cka'"),
        ("cka+hrank:tolerance=2", PruningError, "tolerance=2"),
    ],
)
def test_what_cannot_be_joined(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_criterion(name)


def test_an_option_that_none_takes() -> None:
    with pytest.raises(PruningError, match=r"'tolerance' is no option of snip or cka"):
        make_criterion("snip+cka", tolerance=1e-4)


def test_filters_have_no_sum_of_ranks(few_digits: ImageData) -> None:
    with pytest.raises(PruningError, match="RankSum does not score filters: joined criteria rank blocks only"):
        score_filters(small_network("maps", few_digits, 0), ["stem"], few_digits, "l1+random")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("grasp+cka,snip", ["grasp+cka", "snip"]),
        ("grasp:batch_size=32+cka:samples=5,snip", ["grasp:batch_size=32+cka:samples=5", "snip"]),
        ("grasp:batch_size=3+cka:batch_size=5", ["grasp:batch_size=3+cka:batch_size=5"]),
        ("grasp:batch_size=3,temperature=1e+2+cka,samples=5", ["grasp:batch_size=3,temperature=1e+2+cka:samples=5"]),
        ("x:y=+inf", ["x:y=+inf"]),
    ],
)
def test_joined_names_in_lists(text: str, names: list[str]) -> None:
    assert split_names(text, joined=True) == names
    assert all("+".join(split_joined(name)) == name for name in names)


def test_other_names_may_have_a_plus_in_them() -> None:
    names = ["frost:folder=a+b,severity=3", "npz:a + b.npz"]
    assert split_names(",".join(names)) == names


def test_a_request_keeps_the_options_of_each() -> None:
    asked = Pruning(criterion="grasp:batch_size=32+cka", blocks=2)
    assert (asked.criterion, asked.options) == ("grasp:batch_size=32+cka", {})
    assert named_criterion("grasp:batch_size=32", {"a": 1}) == ("grasp", {"a": 1, "batch_size": 32})
    alone = Pruning(criterion="grasp:batch_size=32", blocks=2)
    assert (alone.criterion, alone.options) == ("grasp", {"batch_size": 32})


def test_criteria_in_files_are_joined(few_digits: ImageData, tmp_path: Path) -> None:
    file, other = tmp_path / "mine.py", tmp_path / "a+b.py"
    for path in (file, other):
        path.write_text(OWN)
    data, network = few_images(few_digits), small_network("tokens", few_digits, 0)
    together = score_blocks(network, data, f"l1+{file}:Depth:factor=2")
    by_l1 = score_blocks(network, data, "l1")
    order = sorted(by_l1, key=by_l1.__getitem__)
    assert together == {name: place + 1 + order.index(name) + 1 for place, name in enumerate(by_l1)}
    assert criterion_files(f"l1+{file}:Depth:factor=2+random") == [file]
    # A file whose name has a plus in it is one criterion.
    assert criterion_files(f"{other}:Depth") == [other]
    assert list(score_blocks(network, data, f"{other}:Depth").values()) == [0, 1, 2]


def test_on_the_command_line(run: Run) -> None:
    asking = ("prune", "--model", "resnet20:width=2", "--train-limit", "60", "--blocks", "1", "--out", "t.pt", "--json")
    found = run(*asking, "--criterion", "random+bi:samples=20").json
    assert found["criterion"] == "random+bi:samples=20"
    check_failure(run(*asking, "--criterion", "random+grap"), 1, "Did you mean 'grasp'")
