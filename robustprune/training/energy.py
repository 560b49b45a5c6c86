"""Energy and CO₂ of training, by codecarbon in offline mode."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict


class Energy(BaseModel):
    """What one stretch of work used.

    Attributes:
        energy_kwh: Electricity of processor, memory and accelerators in kilowatt-hours; None if unknown.
        co2_kg: Kilograms of CO₂ equivalent at the carbon intensity of the country's grid; None if unknown.
        country: ISO 3166 code, three letters.
        method: How codecarbon got at the processor's power, such as "cpu_load" (estimated from its load and
            the model's nominal power), or why there is no figure.
    """

    model_config = ConfigDict(extra="forbid")

    energy_kwh: float | None = None
    co2_kg: float | None = None
    country: str
    method: str


class EnergyMeter:
    """Measures stretches of work one after another.

    A meter that cannot be set up never stops the work: the figures are None and ``method`` says why.
    """

    def __init__(self, country: str = "USA", *, enabled: bool = True) -> None:
        """Prepare a meter for a country (ISO 3166, three letters)."""
        self.country = country
        self._tracker: Any = None
        self._method = "switched off"
        if enabled:
            try:
                self._tracker = _tracker(country)
                self._method = ""
            except Exception as error:
                self._method = f"codecarbon failed: {type(error).__name__}: {error}"

    @contextmanager
    def measure(self) -> Iterator[Energy]:
        """Measure what happens inside; the yielded figures are filled in at the end."""
        energy = Energy(country=self.country, method=self._method)
        if self._tracker is None:
            yield energy
            return
        self._tracker.start_task()
        try:
            yield energy
        finally:
            data = self._tracker.stop_task()
            if data is not None:
                energy.energy_kwh, energy.co2_kg = float(data.energy_consumed), float(data.emissions)
            energy.method = _power_source(self._tracker)


@cache
def _tracker(country: str) -> Any:
    """Return codecarbon's tracker; finding out about the hardware takes it over a second, so one is kept."""
    # Its log lines ignore the level it is given until it is set up.
    logging.getLogger("codecarbon").disabled = True
    from codecarbon import OfflineEmissionsTracker

    return OfflineEmissionsTracker(
        country_iso_code=country,
        save_to_file=False,
        log_level="critical",
        allow_multiple_runs=True,
        # Only this process: a neighbour on the same machine is not this network's cost.
        tracking_mode="process",
    )


def _power_source(tracker: Any) -> str:
    modes = [getattr(hardware, "_mode", None) for hardware in getattr(tracker, "_hardware", [])]
    return "codecarbon " + (next((str(mode) for mode in modes if mode), "unknown"))
