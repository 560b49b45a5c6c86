"""Energy and CO₂ of training, by codecarbon in offline mode."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from robustprune.errors import TrainingError
from robustprune.registry import suggest


@dataclass
class EnergyReading:
    """What one stretch of work used.

    Attributes:
        energy_kwh: Electricity of processor, memory and accelerators in kilowatt-hours; None if unknown.
        co2_kg: Kilograms of CO₂ equivalent at the carbon intensity of the country's grid; None if unknown.
        method: How codecarbon got at the processor's power, such as "cpu_load" (estimated from its load and
            the model's nominal power), or why there is no figure.
    """

    energy_kwh: float | None = None
    co2_kg: float | None = None
    method: str = ""


class EnergyMeter:
    """Measures stretches of work one after another.

    A meter that cannot be set up never stops the work: the figures are None and ``method`` says why.

    Raises:
        TrainingError: codecarbon has no carbon intensity for that country; it would silently take a mean.
    """

    def __init__(self, country: str | None = "USA", *, whole_machine: bool = False) -> None:
        """Prepare a meter for a country (ISO 3166, three letters; None measures nothing), of this process or of all."""
        self._tracker: Any = None
        self._method, self._scope = "switched off", ", whole machine" if whole_machine else ""
        if country is None:
            return
        try:
            from codecarbon.input import DataSource

            known = list(DataSource().get_global_energy_mix_data())  # type: ignore[no-untyped-call]
            self._tracker = _tracker(country, whole_machine) if country in known else None
        except Exception as error:
            self._method = f"codecarbon failed: {type(error).__name__}: {error}"
            return
        if self._tracker is None:
            raise TrainingError(
                f"there is no carbon intensity for a country {country!r}.{suggest(country, known)} --country takes "
                "an ISO 3166 code of three letters, such as USA, BRA or FRA"
            )

    @contextmanager
    def measure(self) -> Iterator[EnergyReading]:
        """Measure what happens inside; the yielded figures are filled in at the end."""
        energy = EnergyReading(method=self._method)
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
            modes = [getattr(hardware, "_mode", None) for hardware in getattr(self._tracker, "_hardware", [])]
            energy.method = f"codecarbon {next(filter(None, modes), 'unknown')}{self._scope}"


@cache
def _tracker(country: str, whole_machine: bool) -> Any:
    """Return codecarbon's tracker; finding out about the hardware takes it over a second, so one is kept."""
    # Its log lines ignore the level it is given until it is set up.
    logging.getLogger("codecarbon").disabled = True
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code=country,
        output_methods=[],
        log_level="critical",
        allow_multiple_runs=True,
        # A neighbour on the same machine is not this network's cost; of several processes there is no such figure.
        tracking_mode="machine" if whole_machine else "process",
    )
    # The constructor swallows its own errors; a first measurement brings them out, and warms it up.
    tracker.start_task()
    tracker.stop_task()
    return tracker
