from __future__ import annotations

import shlex

import pytest

from robustprune.runtime.environment import describe_command, describe_environment


def test_command_can_be_pasted_into_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["/usr/bin/robustprune", "evaluate", "--model", "my ticket's.pt", "--eps", "8/255,0.1", "--out", "a;b.json"]
    monkeypatch.setattr("sys.argv", words)
    command = describe_environment()["command"]
    assert shlex.split(command) == ["robustprune", *words[1:]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/lib/robustprune/__main__.py", "list", "attacks"], "robustprune list attacks"),
        (["sweep.py", "--seed", "3"], "sweep.py --seed 3"),
        ([""], ""),
        ([], ""),
        (["a", "--api-key", "s3cret", "--seed", "1"], "a --api-key '***' --seed 1"),
        (["a", "--token=s3cret"], "a '--token=***'"),
        (["a", "--to", "https://me:s3cret@host/path"], "a --to 'https://***@host/path'"),
    ],
)
def test_command_without_secrets(monkeypatch: pytest.MonkeyPatch, words: list[str], expected: str) -> None:
    monkeypatch.setattr("sys.argv", words)
    assert describe_command() == expected
