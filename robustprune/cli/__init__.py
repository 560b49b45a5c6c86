"""The command line: parse, call, draw. What the commands do is done elsewhere."""

from robustprune.cli import (  # noqa: F401 (importing registers them)
    ablate,
    compare,
    corrupt,
    demo,
    evaluate,
    listing,
    lottery,
    network,
    power,
    prune,
    query,
    sweep,
    table,
    train,
    variance,
)
from robustprune.cli.application import commands, every_command, main

__all__ = ["commands", "every_command", "main"]
