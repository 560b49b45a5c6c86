"""The command line: parse, call, draw. One command a file; what the commands do is done elsewhere."""

from robustprune.cli import (  # noqa: F401 (importing registers them)
    blocks,
    compare,
    corrupt,
    cost,
    demo,
    evaluate,
    export,
    listing,
    lottery,
    prune,
    query,
    report,
    reproduce,
    sweep,
    train,
)
from robustprune.cli.application import commands, main

__all__ = ["commands", "main"]
