"""What a certification found: a part of the record."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Certified(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class CertifiedAt(_Certified):
    """The share of images whose label is proven within an L2 radius, with its 95 % Wilson interval over images."""

    radius: float
    accuracy: float
    interval: tuple[float, float]


class CertifiedResult(_Certified):
    """Certified accuracy by randomized smoothing (Cohen, Rosenfeld & Kolter 2019, arXiv:1902.02918).

    ``sigma``, ``votes`` (the n of the request), ``votes_to_choose`` (its n0) and ``alpha`` are those of
    :class:`robustprune.Certify`; ``n`` images were certified, of which the share ``abstained`` has no class. The
    ``average_radius`` counts 0 where the class is wrong.
    """

    sigma: float
    votes: int
    votes_to_choose: int
    alpha: float
    n: int
    at: list[CertifiedAt]
    abstained: float
    average_radius: float
    seconds: float
