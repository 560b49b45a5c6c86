"""System time over user time of long work on torchvision's ResNet50 at 224×224: what page faults cost.

Training, PGD and scoring (SNIP and GraSP), each in a process of its own, with the C library as it comes and as
robustprune sets it up, and the largest memory that each took. Exits with 1 where system time, as robustprune sets it
up, is over 5 % of user time. Takes some 4 GB, and a few minutes of a quiet machine.

    python benchmarks/system_time.py [--images 16] [--steps 8] [--threads 1] [--only pgd]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import nn

MOST = 0.05
LIBRARY = {"MALLOC_ARENA_TEST": "8"}
"""Its default on 64 bits, which changes nothing, but says that the user has set up the library himself."""


def train(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> None:
    import robustprune as rp

    data = rp.as_data(train=(images.repeat(steps, 1, 1, 1), labels.repeat(steps)), test=(images, labels))
    ticket = rp.Ticket.from_model(network, data)
    rp.train(ticket, data, epochs=1, batch_size=len(images), country=None, augmentation="none")


def pgd(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> None:
    from robustprune.attacks import run_attack

    run_attack(network.eval(), images, labels, "pgd", epsilon="8/255", steps=steps, early_stop=False)


def score(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, _steps: int) -> None:
    import robustprune as rp

    data = rp.as_data(train=(images, labels), test=(images, labels))
    for criterion in ("snip", "grasp"):
        rp.score_blocks(network, data, criterion=criterion, samples_per_class=len(images) // 2)


WORK: dict[str, Callable[[nn.Module, torch.Tensor, torch.Tensor, int], None]] = {
    "training": train,
    "pgd": pgd,
    "scoring": score,
}


def measure(name: str, images: int, steps: int, threads: int) -> None:
    """Do the work here, and print user and system seconds and the largest memory."""
    from torchvision.models import resnet50

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network, pixels = resnet50(num_classes=2), torch.randint(256, (images, 3, 224, 224)) / 255
    before = resource.getrusage(resource.RUSAGE_SELF)
    WORK[name](network, pixels, torch.arange(images) % 2, steps)
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, after.ru_maxrss)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8, help="Of training, and of PGD.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=WORK, help="One kind of work.")
    parser.add_argument("--here", choices=WORK, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        measure(asked.here, asked.images, asked.steps, asked.threads)
        return 0
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    sizes = [f"--{name}={getattr(asked, name)}" for name in ("images", "steps", "threads")]
    is_kept = True
    for name in [asked.only] if asked.only else WORK:
        for label, variables in (("as the C library comes", LIBRARY), ("robustprune", {})):
            command = [sys.executable, __file__, "--here", name, *sizes]
            done = subprocess.run(command, env=own | variables, stdout=subprocess.PIPE, text=True, check=True)
            user, system, peak = map(float, done.stdout.split())
            print(
                f"{name:9} {label:23} user {user:6.1f} s, system {system:5.1f} s: {100 * system / user:4.1f} %, "
                f"at most {peak / 2**20:.2f} GiB",
                flush=True,
            )
            is_kept &= label != "robustprune" or system <= MOST * user
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
