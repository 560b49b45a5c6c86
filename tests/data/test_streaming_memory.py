"""A large source takes as much memory as the bound says, however large it is."""

import os
import subprocess
import sys

import pytest

BOUND, ROOM = 4, 20  # MiB: what is kept of a split; twice that, and 12 for copies of some images
SCRIPT = """
import re, resource, sys
from pathlib import Path
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset
import robustprune as rp
from robustprune.data import given

folder, bound, room = Path(sys.argv[1]), int(sys.argv[2]) << 20, int(sys.argv[3]) << 20

class Rows(Dataset):
    def __init__(self, images): self.images = images
    def __len__(self): return len(self.images)
    def __getitem__(self, place): return torch.from_numpy(self.images[place].copy()), place % 4

def written(name, count, kind):
    images = np.lib.format.open_memmap(folder / name, "w+", kind, (count, 3, 48, 48))
    for start in range(0, count, 256):
        pixels = np.random.default_rng(start).integers(256, size=images[start:start + 256].shape, dtype=np.uint8)
        images[start:start + 256] = pixels if kind == "uint8" else pixels / kind(255)
    return np.load(folder / name, mmap_mode="r")

def go_through(source, count):
    split = rp.as_data(source).train
    assert split.subset(torch.arange(count)).fingerprint() == split.fingerprint()
    return sum(int(batch.images.sum()) for batch in split.batches(64, order=torch.randperm(count)))

small, large = (written(f"{count}.npy", count, "uint8") for count in (3584, 10752))  # of 24 and 71 MiB
floats = written("floats.npy", 3584, np.float32)
sources = [(images, np.arange(len(images)) % 4) for images in (small, large, floats)]
sources.append(DataLoader(Rows(large), batch_size=64, shuffle=True))
given.IN_MEMORY_BYTES = 1 << 16
go_through((np.array(small[:64]), np.arange(64) % 4), 64)

now = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
given.IN_MEMORY_BYTES = bound
resource.setrlimit(resource.RLIMIT_DATA, (now + room, resource.RLIM_INFINITY))  # files' pages are not counted
sums = [go_through(source, count) for source, count in zip(sources, (3584, 10752, 3584, 10752), strict=True)]
assert sums[0] == sums[2] and sums[1] == sums[3]
given.IN_MEMORY_BYTES = 1 << 30
try:
    go_through(sources[0], 3584)
except (MemoryError, RuntimeError) as error:
    assert "llocat" in str(error), error
    print("only what is streamed fits")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits what a process allocates, and not what it maps of files")
def test_a_source_of_any_size_takes_the_memory_of_the_bound(tmp_path):
    # Otherwise the allocator keeps what is freed, by what came before.
    plain = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(BOUND), str(ROOM)],
        env=os.environ | plain,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "only what is streamed fits\n", done.stderr[-2000:]
