"""Names of what is written: no two files share one, and what cannot be written is found out first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import TINY, Run, check_failure

from robustprune.evaluation.attacks import adversarial_files
from robustprune.records import samples_path
from robustprune.report.writing import _folders, table_files
from robustprune.sweep import read_sweep

NAME = st.text("ab.é-,=", min_size=1, max_size=6).filter(lambda text: text.strip("."))
EPSILON = st.sampled_from([0.0, 2 / 255, 8 / 255, 0.031373, 0.03137, 0.1, 1 / 3])
ATTACK = st.tuples(st.sampled_from(["fgsm", "pgd", "transfer:pgd", "torchattacks:PGD"]), EPSILON)


@given(st.lists(NAME, min_size=2, max_size=5, unique=True), st.lists(ATTACK, min_size=1, max_size=5, unique=True))
def test_files_beside_files_are_never_shared(names: list[str], attacks: list[tuple[str, float]]) -> None:
    beside = [[samples_path(Path(name)), *table_files(name), *adversarial_files(name, attacks)] for name in names]
    found = [path for own in beside for path in own]
    assert len(set(found)) == len(found)
    assert all(path.name.startswith(name) for name, own in zip(names, beside, strict=True) for path in own)


@given(st.lists(st.text("aB1 /,·", min_size=1, max_size=4), min_size=2, max_size=5, unique=True))
def test_parts_of_a_report_have_folders_of_their_own(titles: list[str]) -> None:
    assert len(set(_folders("figures", titles))) == len(titles)
    assert _folders(None, titles) == []


@pytest.mark.parametrize(("file", "name"), [("a-lr0.1.yaml", "a-lr0.1"), ("a-lr0.1", "a-lr0.1"), ("b.yml", "b")])
def test_sweeps_of_different_names_have_plans_of_their_own(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).write_text("{model: resnet20, pruning: {criterion: random, blocks: 1}}")
    assert read_sweep(tmp_path / file).name == name


@pytest.fixture
def ticket(run: Run) -> str:
    for name in ("net-lr0.1", "net-lr0.2"):
        assert run("prune", *TINY, "--criterion", "random", "--blocks", "1", "--out", name).code == 0
    return "net-lr0.1"


def test_records_of_several_networks(run: Run, ticket: str) -> None:
    asking = ("evaluate", "--model", ticket, "--extra-model", "net-lr0.2", "--limit", "10", "--out", "records")
    for _ in range(2):  # again is no error
        assert run(*asking).code == 0
        ends = (".json", ".json.samples.npz")
        assert sorted(os.listdir("records")) == sorted(f"net-lr0.{i}{end}" for i in (1, 2) for end in ends)
    os.mkdir("other")
    os.link("net-lr0.1", "other/NET-lr0.1")
    check_failure(
        run("evaluate", "--model", ticket, "--extra-model", "other/NET-lr0.1", "--out", "r"), 2, "the same name"
    )


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("folder", "folder"),
        ("file/record.json", "is a file"),
        ("a" * 240 + ".json", "too long"),  # with what stands beside it
        ("net-lr0.1", "is the file that --model names"),
        ("mine.txt", "not a record and would be lost"),
        ("taken", "taken.samples.npz: what is there is not a file of outcomes"),
        ("there.json", "is the file that --transfer-from names"),
    ],
)
def test_what_cannot_be_written_is_found_out_before_the_work(run: Run, ticket: str, out: str, words: str) -> None:
    os.mkdir("folder")
    for name in ("file", "mine.txt", "taken.samples.npz"):
        Path(name).write_text("somebody's")
    os.link("net-lr0.2", "there.json")
    before = sorted(os.listdir())
    asking = ("evaluate", "--model", ticket, "--attack", "fgsm", "--transfer-from", "net-lr0.2")
    check_failure(run(*asking, "--out", out), 2, words)
    assert sorted(os.listdir()) == before


def test_two_outputs_are_two_files(run: Run, ticket: str) -> None:
    asking = ("evaluate", "--model", ticket, "--attack", "fgsm", "--limit", "10")
    for second in ("x", "./x", str(Path("x").absolute()), "x.samples.npz"):
        check_failure(run(*asking, "--out", "x", "--save-adversarial", second), 2, "would both write")
    assert not [name for name in os.listdir() if name.startswith("x")]


@pytest.mark.slow
def test_what_an_earlier_call_wrote_is_replaced_and_else_only_with_overwrite(run: Run, ticket: str) -> None:
    attack = ("--attack", "fgsm", "--attack", "pgd", "--steps", "1", "--save-adversarial", "a.npz")
    asking = ("evaluate", "--model", ticket, "--limit", "10", *attack, "--out", "r.json")
    for _ in range(2):
        assert run(*asking).code == 0
    beside = [f"a.npz-{name}-0.03137.npz" for name in ("fgsm", "pgd")]
    assert sorted(os.listdir()) == sorted([*beside, "net-lr0.1", "net-lr0.2", "r.json", "r.json.samples.npz"])
    Path(beside[1]).write_text("somebody's")
    check_failure(run(*asking), 2, "--save-adversarial", beside[1], "add --overwrite")
    assert Path(beside[1]).read_text() == "somebody's"
    assert run(*asking, "--overwrite").code == 0
    assert Path(beside[1]).read_bytes().startswith(b"PK")


def test_a_record_beside_the_folders_of_a_set_is_no_part_of_it(run: Run) -> None:
    from PIL import Image

    for split in ("train", "test"):
        for name in ("a", "b"):
            Path("set", split, name).mkdir(parents=True)
            for number in range(4):
                Image.new("L", (8, 8), 50 * number).save(f"set/{split}/{name}/{number}.png")
    asking = ("evaluate", *TINY, "--dataset", "imagefolder:set")
    assert run(*asking, "--out", "set/record.json").code == 0
    check_failure(run(*asking, "--out", "set/test/a/record.json"), 2, "lies in set, which --dataset reads")
    Path("link").symlink_to("set/test/a")
    check_failure(run(*asking, "--out", "link/record.json"), 2, "lies in set")
    check_failure(run("corrupt", "--dataset", "imagefolder:set", "--gallery", "set/g.png"), 2, "lies in set")


def test_a_demo_keeps_out_of_folders_of_others(run: Run) -> None:
    Path("dense.pt").write_bytes(b"two hundred epochs")
    check_failure(run("demo", "--epochs", "1", "--out", "."), 2, "holds something else")
    assert os.listdir() == ["dense.pt"]
