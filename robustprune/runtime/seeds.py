"""Which seed a network counts as, for records that are read and for those that are only looked through.

Importing this imports nothing: a question to records is not to wait for torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def network_seed(training: Mapping[str, Any], initial_seed: int | None) -> int | None:
    """Return the seed a network was trained with, else that of its initial weights; None where neither is known.

    Args:
        training: What a ticket or a record says of its training.
        initial_seed: That of its initial weights.
    """
    seed = training.get("seed", initial_seed)
    return None if seed is None else int(seed)
