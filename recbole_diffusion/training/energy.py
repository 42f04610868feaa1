"""The energy of a run, where the machine can be read: RAPL for processors, NVML for Nvidia's GPUs.

Both count the energy of whole packages and whole devices, whichever process uses it. Runs beside each other therefore
share the numbers, and a comparison with several workers has none of a single run. Where the processors cannot be read,
CodeCarbon estimates them, if it is installed.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple, Optional

from recbole_diffusion.training.code_carbon import CodeCarbonMeter, Estimate

#: Linux's folder of RAPL counters.
POWERCAP = Path("/sys/class/powercap")
_JOULES_PER_WH = 3600.0
_MICRO, _MILLI = 1e-6, 1e-3


class Energy(NamedTuple):
    """The energy of a run.

    Attributes:
        wh: watt-hours; None where nothing can be read.
        co2_g: grams of CO2: ``wh`` times the key ``carbon_intensity``, or CodeCarbon's factor of the key
            ``carbon_country``; None without both.
        source: what was read or estimated, or why nothing is.
    """

    wh: Optional[float]
    co2_g: Optional[float]
    source: str


class _Rapl(NamedTuple):
    """The counter of one processor package: file, and the value after which it starts again from 0, in microjoules."""

    file: Path
    range_uj: int

    def read_uj(self) -> int:
        return int(self.file.read_text())

    def joules(self, before: int, after: int) -> float:
        """Joules between two readings, at most one turn of the counter apart."""
        return ((after - before) % (self.range_uj + 1)) * _MICRO


class EnergyMeter:
    """A meter that runs from its creation to :meth:`stop`.

    Args:
        device: of the run; a GPU's energy is added to the processors'.
        carbon_intensity: grams of CO2 per kilowatt-hour; None: CodeCarbon's factor of the country.
        powercap: folder of the RAPL counters.
        country: three-letter code of the grid's country; None: no factor of CodeCarbon's.
    """

    def __init__(
        self,
        device: Any = "cpu",
        carbon_intensity: Optional[float] = None,
        powercap: Path = POWERCAP,
        country: Optional[str] = None,
    ) -> None:
        self.carbon_intensity, self.country = carbon_intensity, country
        self._counters, self._reason = _packages(powercap)
        needs_factor = carbon_intensity is None and country is not None
        self._estimated = CodeCarbonMeter(country) if needs_factor or not self._counters else None
        self._before = [counter.read_uj() for counter in self._counters]
        self._on_gpu, self._gpu = str(device).startswith("cuda"), _gpu_counter(device)
        self._gpu_before = self._gpu.read_mj() if self._gpu is not None else 0

    def stop(self) -> Energy:
        """Return the energy since the creation."""
        readings = [counter.read_uj() for counter in self._counters]
        estimate = Estimate(None, 0.0, None, "") if self._estimated is None else self._estimated.stop()
        wh = sum(c.joules(b, a) for c, b, a in zip(self._counters, self._before, readings)) / _JOULES_PER_WH
        sources = [f"RAPL, {len(self._counters)} package(s)"] if self._counters else []
        if not self._counters and estimate.cpu_wh is not None:
            wh += estimate.cpu_wh
            sources.append(f"{estimate.source}, an estimate ({self._reason})")
        if self._gpu is not None:
            wh += (self._gpu.read_mj() - self._gpu_before) * _MILLI / _JOULES_PER_WH
            sources.append("NVML")
        elif estimate.cpu_wh is not None and self._on_gpu:
            wh += estimate.gpu_wh
        if not sources:
            return Energy(None, None, f"{self._reason}; {estimate.source}")
        has_processors = bool(self._counters) or estimate.cpu_wh is not None
        missing = "" if has_processors else f" (processors not counted: {self._reason}; {estimate.source})"
        return Energy(wh, *self._co2(wh, estimate, " and ".join(sources) + missing))

    def _co2(self, wh: float, estimate: Estimate, source: str) -> tuple[Optional[float], str]:
        """Grams of CO2, and the source with that of the factor."""
        if self.carbon_intensity is not None:
            return wh / 1000 * self.carbon_intensity, source
        if self.country is None:
            return None, source
        if estimate.g_per_kwh is None:
            reason = "is not known" if estimate.cpu_wh is not None else f"needs CodeCarbon ({estimate.source})"
            return None, f"{source}; carbon_country={self.country!r} {reason}"
        return (
            wh / 1000 * estimate.g_per_kwh,
            f"{source}; {estimate.g_per_kwh:.0f} g CO2 per kWh in {self.country}, by {estimate.source}",
        )


def _packages(powercap: Path) -> tuple[list[_Rapl], str]:
    """The readable counters of the processor packages; without any, the reason."""
    folders = sorted(powercap.glob("*-rapl:[0-9]*")) if powercap.is_dir() else []
    packages = [folder for folder in folders if folder.name.count(":") == 1 and _name(folder).startswith("package")]
    if not packages:
        return [], "no RAPL counters on this machine (virtual machines and containers have none)"
    counters = []
    for folder in packages:
        try:
            counter = _Rapl(folder / "energy_uj", int((folder / "max_energy_range_uj").read_text()))
            counter.read_uj()
        except (OSError, ValueError):
            return [], f"{folder / 'energy_uj'} cannot be read; sudo chmod a+r on it allows it"
        counters.append(counter)
    return counters, ""


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text().strip()
    except OSError:
        return ""


class _Gpu(NamedTuple):
    """NVML's energy counter of one GPU."""

    nvml: Any
    handle: Any

    def read_mj(self) -> int:
        return int(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle))


def _gpu_counter(device: Any) -> Optional[_Gpu]:
    """The counter of the run's GPU; None on the CPU, without the package pynvml, and for GPUs that do not count."""
    if not str(device).startswith("cuda"):
        return None
    with contextlib.suppress(Exception):  # NVML raises classes of its own for everything
        import pynvml

        pynvml.nvmlInit()
        place = int(str(device).partition(":")[2] or 0)
        gpu = _Gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(place))
        gpu.read_mj()
        return gpu
    return None
