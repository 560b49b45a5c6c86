"""Why a detector has nothing to say of a network."""

from __future__ import annotations

from robustprune.errors import RobustPruneError


class DetectorError(RobustPruneError):
    """A detector that cannot be fitted to, or score, the network at hand; the message becomes the reason given."""
