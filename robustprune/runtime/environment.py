"""Where a result came from: the machine, the versions, and a hash of the weights."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_leaves_with_path

from robustprune._version import __version__
from robustprune.runtime.files import hash_arrays

_SECRET = re.compile(r"--?[\w-]*(token|password|secret|api-?key)", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def hash_weights(network: nn.Module) -> str:
    """Return the SHA-256 over the parameters and buffers of a network: names, types, shapes and values."""
    # The order of constants changes as a script is saved and loaded.
    constants = sorted(
        frozen_constants(network), key=lambda each: (str(each.dtype), each.shape, _bytes(each).tobytes())
    )
    held = network.state_dict() | {f"constant {number}": value for number, value in enumerate(constants)}
    # Quantized layers hold tuples of tensors, and types; what else a state holds tells by its words.
    leaves = {name + keystr(path): leaf for name, value in held.items() for path, leaf in tree_leaves_with_path(value)}
    return hash_arrays(
        {
            # Bytes, since numpy has no bfloat16.
            name + (f" {value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else ""): _bytes(value)
            for name, value in leaves.items()
        }
    )


def frozen_constants(network: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of frozen scripts, which are constants of their graphs instead of parameters."""
    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule):
            with suppress(RuntimeError):  # one that only holds others has no graph
                graph: Any = module.graph  # to be held on to as long as its nodes are
                for node in graph.findAllNodes("prim::Constant", recurse=True):
                    if node.hasAttribute("value") and node.kindOf("value") == "t":
                        yield node.t("value")


def _bytes(value: Any) -> np.ndarray[Any, Any]:
    if not isinstance(value, Tensor):
        return np.frombuffer(repr(value).encode(), dtype=np.uint8)
    value = value.detach().cpu()
    value = value.dequantize() if value.is_quantized else value.to_dense()
    return np.asarray(value.contiguous().flatten().view(torch.uint8).numpy())


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
    words, is_hidden = [], False
    for word in sys.argv[1:]:
        option, equals, _ = word.partition("=")
        is_secret = _SECRET.fullmatch(option) is not None
        shown = f"{option}=***" if is_secret and equals else _LOGIN.sub("***", word)
        words.append("***" if is_hidden else shown)
        is_hidden = is_secret and not equals
    return shlex.join([name, *words]) if name else ""
