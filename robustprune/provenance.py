"""Where a result came from: the machine, the versions, and a hash of the weights."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn

from robustprune._version import __version__
from robustprune.files import hash_arrays


def hash_weights(network: nn.Module) -> str:
    """Return the SHA-256 over the parameters and buffers of a network: names, types, shapes and values."""
    return hash_arrays(
        {
            # Bytes, since numpy has no bfloat16.
            f"{name} {value.dtype} {tuple(value.shape)}": value.cpu().contiguous().flatten().view(torch.uint8).numpy()
            for name, value in network.state_dict().items()
        }
    )


def describe_environment() -> dict[str, Any]:
    """Return time, versions, platform and threads: what a reader needs to trust or repeat a result."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "robustprune": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "threads": torch.get_num_threads(),
    }
