"""Chunks of images on as many threads as torch has been given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch


def in_parallel(work: Callable[[int], int], starts: Sequence[int]) -> Iterator[int]:
    """Yield ``work(start)`` for each start, in order, computed by `torch.get_num_threads` threads at a time.

    Within one of them torch computes alone: threads that each start threads of their own wait for each other.
    """
    threads = min(torch.get_num_threads(), len(starts))
    if threads < 2:
        yield from map(work, starts)
        return
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, starts)
    finally:
        pool.shutdown(cancel_futures=True)
        # A thread that sets its own number also sets the one that threads to come begin with.
        torch.set_num_threads(before)
