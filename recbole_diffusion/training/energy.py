"""The energy of a run, where the machine can be read: RAPL for processors, NVML for Nvidia's GPUs.

Both count the energy of whole packages and whole devices, whichever process uses it. Runs beside each other therefore
share the numbers, and a comparison with several workers has none of a single run.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple, Optional

#: Linux's folder of RAPL counters.
POWERCAP = Path("/sys/class/powercap")
_JOULES_PER_WH = 3600.0
_MICRO, _MILLI = 1e-6, 1e-3


class Energy(NamedTuple):
    """The energy of a run.

    Attributes:
        wh: watt-hours; None where nothing can be read.
        co2_g: grams of CO2, ``wh`` times the key ``carbon_intensity``; None without either.
        source: what was read, or why nothing can be.
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
        carbon_intensity: grams of CO2 per kilowatt-hour; None: no grams.
        powercap: folder of the RAPL counters.
    """

    def __init__(
        self, device: Any = "cpu", carbon_intensity: Optional[float] = None, powercap: Path = POWERCAP
    ) -> None:
        self.carbon_intensity = carbon_intensity
        self._counters, self._reason = _packages(powercap)
        self._before = [counter.read_uj() for counter in self._counters]
        self._gpu = _gpu_counter(device)
        self._gpu_before = self._gpu.read_mj() if self._gpu is not None else 0

    def stop(self) -> Energy:
        """Return the energy since the creation."""
        readings = [counter.read_uj() for counter in self._counters]
        joules = sum(c.joules(b, a) for c, b, a in zip(self._counters, self._before, readings))
        sources = [f"RAPL, {len(self._counters)} package(s)"] if self._counters else []
        if self._gpu is not None:
            joules += (self._gpu.read_mj() - self._gpu_before) * _MILLI
            sources.append("NVML")
        if not sources:
            return Energy(None, None, self._reason)
        wh = joules / _JOULES_PER_WH
        co2_g = None if self.carbon_intensity is None else wh / 1000 * self.carbon_intensity
        missing = "" if self._counters else f" (processors not counted: {self._reason})"
        return Energy(wh, co2_g, " and ".join(sources) + missing)


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
