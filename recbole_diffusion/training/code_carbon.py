"""An estimate of a run's energy, and of the grid's CO2, by CodeCarbon where the machine has no counters.

CodeCarbon's offline tracker is used: it calls no address. https://github.com/mlco2/codecarbon
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any, NamedTuple, Optional

INSTALL = "pip install codecarbon"


class Estimate(NamedTuple):
    """What CodeCarbon estimated.

    Attributes:
        cpu_wh: watt-hours of processors and memory.
        gpu_wh: watt-hours of all GPUs.
        g_per_kwh: grams of CO2 per kilowatt-hour of the country's grid; None without a country that it knows.
        source: its name and version, or why there is none.
    """

    cpu_wh: Optional[float]
    gpu_wh: float
    g_per_kwh: Optional[float]
    source: str


class CodeCarbonMeter:
    """A tracker that runs from its creation to :meth:`stop`.

    Args:
        country: three-letter code, for the grid's factor; None: no factor.
    """

    def __init__(self, country: Optional[str] = None) -> None:
        self._country, self._tracker, self._reason = country, None, ""
        try:
            import codecarbon
        except ImportError:
            self._reason = f"{INSTALL} estimates it"
            return
        self._name = f"CodeCarbon {getattr(codecarbon, '__version__', '')}".strip()
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it logs before it reads its own log_level
        try:
            place = {} if country is None else {"country_iso_code": country}
            self._tracker = codecarbon.OfflineEmissionsTracker(
                save_to_file=False, log_level="critical", allow_multiple_runs=True, **place
            )
            self._tracker.start()
        except Exception as error:  # of any type: a missing estimate must not end a training
            self._tracker, self._reason = None, f"{self._name} failed: {' '.join(str(error).split())}"

    def stop(self) -> Estimate:
        """Return the estimate since the creation."""
        data: Any = None
        if self._tracker is not None:
            with contextlib.suppress(Exception):  # see above
                self._tracker.stop()
                data = self._tracker.final_emissions_data
        if data is None:
            return Estimate(None, 0.0, None, self._reason or f"{self._name} gave no estimate")
        return Estimate(
            1000 * (data.cpu_energy + data.ram_energy), 1000 * data.gpu_energy, self._factor(data), self._name
        )

    def _factor(self, data: Any) -> Optional[float]:
        """Grams per kilowatt-hour; None for a country that CodeCarbon does not know: it takes the world's mean then."""
        if self._country is None or not data.country_name or not data.energy_consumed:
            return None
        return float(1000 * data.emissions / data.energy_consumed)
