"""Where a result came from: the machine, the versions, and a hash of the weights."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
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
    """Return time, command, versions, platform and threads: what a reader needs to trust or repeat a result."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": describe_command(),
        "robustprune": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def describe_command() -> str:
    """Return the command line of this process, quoted for a shell, without passwords and tokens; may be empty.

    Of a Python script it is the script and its arguments, without the interpreter.
    """
    program = Path(sys.argv[0]) if sys.argv else Path()
    name = program.parent.name if program.name == "__main__.py" else program.name
    words, hidden = [], False
    for word in sys.argv[1:]:
        words.append("***" if hidden else _without_secrets(word))
        hidden = _SECRET.fullmatch(word) is not None
    return shlex.join([name, *words]) if name else ""


_SECRET = re.compile(r"--?[\w-]*(token|password|secret|api-?key)", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def _without_secrets(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and _SECRET.fullmatch(option):
        value = "***"
    return _LOGIN.sub("***", f"{option}{equals}{value}")
