"""How work is dealt out to processes, and who of them speaks."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import Run, check_failure

from robustprune.data import augment
from robustprune.data.augmentation import augmix
from robustprune.errors import ProcessError
from robustprune.runtime.launch import Launch, read_launch, silence_others
from robustprune.runtime.process_group import SINGLE, ProcessGroup, join_process_group
from robustprune.runtime.randomness import BatchGenerator

COUNTS = st.integers(1, 9)
TOTALS = st.integers(0, 300)


@given(COUNTS, TOTALS)
def test_rows_follow_each_other_and_differ_by_one(count: int, total: int) -> None:
    rows = [ProcessGroup(rank, count).rows(total) for rank in range(count)]
    assert [place for each in rows for place in range(total)[each]] == list(range(total))
    sizes = [each.stop - each.start for each in rows]
    assert max(sizes) - min(sizes) <= 1


@given(COUNTS, TOTALS, st.integers(1, 70))
def test_shares_are_whole_blocks_that_join_to_all(count: int, total: int, block: int) -> None:
    shares = [ProcessGroup(rank, count).share(total, block) for rank in range(count)]
    assert sorted(torch.cat(shares).tolist()) == list(range(total))
    for share in shares:
        for start in range(0, len(share), block):
            together = share[start : start + block]
            assert int(together[0]) % block == 0
            assert together.tolist() == list(range(int(together[0]), int(together[0]) + len(together)))
    if total:
        parts = [share.double() if len(share) else None for share in shares]
        assert ProcessGroup(0, count).joined(parts, block).tolist() == list(range(total))


def test_one_process_does_all() -> None:
    assert SINGLE.is_main
    assert SINGLE.gather(3) == [3]
    assert SINGLE.sum([1.5, 2]) == [1.5, 2]
    assert SINGLE.from_main(lambda: "done") == "done"
    (found,) = SINGLE.spread(5, 2, lambda places: [places * 10])
    assert found.tolist() == [0, 10, 20, 30, 40]


@given(st.integers(0, 10), st.integers(2, 12))
@pytest.mark.slow
def test_some_images_of_a_batch_are_drawn_for_as_within_it(start: int, total: int) -> None:
    rows = slice(min(start, total - 1), total)
    whole, part = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    images = torch.randint(256, (total, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    draws = BatchGenerator(part, rows, total)
    for _ in range(2):  # the generator has moved on alike
        expected = augment(images, whole, flip=True, shift=1)
        assert torch.equal(augment(images[rows], draws, flip=True, shift=1), expected[rows])
        torch.testing.assert_close(augmix(images[rows], draws), augmix(images, whole)[rows])
        assert torch.equal(draws.randn(rows.stop - rows.start, 3), torch.randn(total, 3, generator=whole)[rows])
        drawn = torch.rand(3, total, generator=whole)
        assert torch.equal(draws.rand(3, rows.stop - rows.start, along=1), drawn[:, rows])


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the place of the second of two processes."""
    names = {"TORCHELASTIC_RUN_ID": "1", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    # As if torchrun kept no books.
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)


def test_ranks_of_schedulers_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert read_launch() == Launch()


@pytest.mark.usefixtures("second")
def test_only_the_first_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert read_launch() == Launch(rank=1, count=2, local_rank=1)
    silence_others()
    print("a table")
    print("progress", file=sys.stderr)
    assert capsys.readouterr() == ("", "")
    sys.stdout.close()


@pytest.mark.usefixtures("second")
def test_processes_do_not_share_a_card() -> None:
    expected = "all 2 processes would share the GPU 'cuda:1'; give --device cuda"
    with pytest.raises(ProcessError, match=expected), join_process_group(torch.device("cuda:1")):
        pass
    # The machine's own cards are counted once none is named.
    if not torch.cuda.is_available():
        with pytest.raises(ProcessError, match="this machine has 0"), join_process_group(torch.device("cuda")):
            pass


def test_other_commands_refuse_several_processes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    stderr = sys.stderr
    monkeypatch.setattr(sys, "__stderr__", stderr)
    check_failure(run("blocks", "--model", "resnet20"), 2, "only train and evaluate", "without torchrun")
