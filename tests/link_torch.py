"""Put torch, as it is installed here, into another environment by hard links: no minutes of copying, no gigabytes.

    .venv/bin/python tests/link_torch.py build/bare

Only torch, torchvision, and the compilers and CUDA libraries that torch asks for: whatever else an installation there
needs, pip has to bring.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

LARGE = ("torch", "torchvision", "triton", "cuda-", "nvidia-c", "nvidia-n")


def link(distribution: Distribution, target: Path) -> None:
    """Link the files that a package lists as its own, but for programs, which name their interpreter."""
    for file in distribution.files or ():
        place = target / file
        if ".." in file.parts or place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.locate(), place)
        except OSError:  # on another file system
            shutil.copy2(file.locate(), place)


def main(environment: str) -> None:
    """Link into an environment of the same Python; into that of another one nothing."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = Path(environment, "lib", name, "site-packages")
    for distribution in distributions() if target.is_dir() else ():
        if distribution.name in LARGE[:3] or distribution.name.startswith(LARGE[3:]):
            link(distribution, target)


if __name__ == "__main__":
    main(sys.argv[1])
