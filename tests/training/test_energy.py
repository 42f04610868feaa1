"""The energy meter, on a folder with the counters of a machine."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from recbole_diffusion import run
from recbole_diffusion.training import energy, run_cost
from recbole_diffusion.training.energy import Energy, EnergyMeter


@pytest.fixture(autouse=True)
def no_codecarbon(monkeypatch):
    """Without CodeCarbon, whether it is installed or not."""
    monkeypatch.setitem(sys.modules, "codecarbon", None)


class Tracker:
    """The part of CodeCarbon's offline tracker that is used: 2 Wh of processors, 1 of memory, 5 of GPUs, at 50 g."""

    def __init__(self, country_iso_code=None, **options):
        assert options == {"save_to_file": False, "log_level": "critical", "allow_multiple_runs": True}
        self.country, self.started = country_iso_code, False

    def start(self):
        self.started = True

    def stop(self):
        assert self.started
        name = {"FRA": "France"}.get(self.country)
        energy = {"cpu_energy": 0.002, "ram_energy": 0.001, "gpu_energy": 0.005, "energy_consumed": 0.008}
        self.final_emissions_data = SimpleNamespace(**energy, emissions=0.008 * 0.05, country_name=name)


@pytest.fixture
def codecarbon(no_codecarbon, monkeypatch):
    """A module with the interface of CodeCarbon's."""
    module = SimpleNamespace(OfflineEmissionsTracker=Tracker, __version__="3.0")
    monkeypatch.setitem(sys.modules, "codecarbon", module)
    return module


QUICK = {"steps": 3, "dims": [8], "epochs": 1}


@pytest.fixture
def powercap(tmp_path):
    """Two packages, and parts of them that must not be counted twice."""
    for name, kind, value in (
        ("intel-rapl:0", "package-0", 1_000_000),
        ("intel-rapl:1", "package-1", 9_000_000),
        ("intel-rapl:0:0", "core", 5),
        ("intel-rapl:2", "psys", 7),
    ):
        folder = tmp_path / "powercap" / name
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{kind}\n")
        (folder / "energy_uj").write_text(f"{value}\n")
        (folder / "max_energy_range_uj").write_text("9999999\n")
    return tmp_path / "powercap"


def test_joules_of_all_packages_with_a_counter_that_turned(powercap):
    meter = EnergyMeter("cpu", 400, powercap)
    (powercap / "intel-rapl:0" / "energy_uj").write_text("4600000")  # 3.6 J
    (powercap / "intel-rapl:1" / "energy_uj").write_text("1000000")  # from 9 J over 10 J to 1 J: 2 J
    (powercap / "intel-rapl:0:0" / "energy_uj").write_text("9000000")
    used = meter.stop()
    assert used.wh == pytest.approx(5.6 / 3600)
    assert used.co2_g == pytest.approx(5.6 / 3600 / 1000 * 400)
    assert used.source == "RAPL, 2 package(s)"


@pytest.mark.parametrize(("intensity", "country"), [(400, "FRA"), (400, None), (None, None)])
def test_codecarbon_is_not_started_where_nothing_of_it_is_used(intensity, country, powercap, monkeypatch):
    monkeypatch.setattr(energy, "CodeCarbonMeter", None)
    used = EnergyMeter("cpu", intensity, powercap, country).stop()
    assert used == Energy(0.0, None if intensity is None else 0.0, "RAPL, 2 package(s)")


def test_without_a_factor_there_is_no_co2(powercap):
    assert EnergyMeter("cpu", None, powercap).stop() == Energy(0.0, None, "RAPL, 2 package(s)")


def test_a_machine_that_cannot_be_read_says_why(powercap, tmp_path):
    assert "no RAPL counters" in EnergyMeter("cpu", 400, tmp_path / "nothing").stop().source
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    used = EnergyMeter("cpu", 400, powercap).stop()
    assert (used.wh, used.co2_g) == (None, None)
    assert "intel-rapl:1/energy_uj cannot be read; sudo chmod a+r" in used.source


def test_a_run_tells_its_energy(settings, powercap, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", powercap)
    monkeypatch.setattr(run_cost, "EnergyMeter", lambda device, factor, country: EnergyMeter(device, factor, powercap))
    result = run("DiffRec", "board", config_dict={**settings, **QUICK, "carbon_intensity": 100}, saved=False)
    assert result["timing"]["energy_wh"] == 0
    assert "; 0 Wh, 0 g CO2" in result.table()


def test_a_run_without_counters_has_none(settings, monkeypatch, tmp_path):
    monkeypatch.setattr(run_cost, "EnergyMeter", lambda device, factor, country: EnergyMeter(device, factor, tmp_path))
    result = run("DiffRec", "board", config_dict={**settings, **QUICK}, saved=False)
    assert result["timing"]["energy_wh"] is None
    assert "no RAPL" in result["timing"]["energy_source"]
    assert "Wh" not in result.table()


def test_without_counters_codecarbon_estimates(codecarbon, tmp_path):
    used = EnergyMeter("cpu", None, tmp_path).stop()
    assert used.wh == pytest.approx(3)  # the GPUs of a run on the CPU are not its own
    assert used.co2_g is None
    assert used.source.startswith("CodeCarbon 3.0, an estimate (no RAPL counters")
    assert EnergyMeter("cpu", 400, tmp_path).stop().co2_g == pytest.approx(3 / 1000 * 400)
    assert EnergyMeter("cuda", None, tmp_path).stop().wh == pytest.approx(8)


def test_the_factor_of_a_country_is_codecarbons(codecarbon, powercap, tmp_path):
    used = EnergyMeter("cpu", None, tmp_path, "FRA").stop()
    assert used.co2_g == pytest.approx(3 / 1000 * 50)
    assert used.source.endswith("; 50 g CO2 per kWh in FRA, by CodeCarbon 3.0")
    meter = EnergyMeter("cpu", None, powercap, "FRA")
    (powercap / "intel-rapl:0" / "energy_uj").write_text("4600000")  # read, not estimated: 3.6 J
    used = meter.stop()
    assert used.wh == pytest.approx(3.6 / 3600)
    assert used.co2_g == pytest.approx(3.6 / 3600 / 1000 * 50)
    assert EnergyMeter("cpu", 400, tmp_path, "FRA").stop().co2_g == pytest.approx(3 / 1000 * 400)


def test_an_unknown_country_has_no_factor_and_not_the_worlds(codecarbon, tmp_path):
    used = EnergyMeter("cpu", None, tmp_path, "FRX").stop()
    assert used.wh == pytest.approx(3)
    assert used.co2_g is None
    assert "carbon_country='FRX' is not known" in used.source


def test_without_codecarbon_a_line_says_what_to_install(powercap, tmp_path):
    assert EnergyMeter("cpu", None, tmp_path).stop() == Energy(
        None,
        None,
        "no RAPL counters on this machine (virtual machines and containers have none); "
        "pip install codecarbon estimates it",
    )
    used = EnergyMeter("cpu", None, powercap, "FRA").stop()
    assert (used.wh, used.co2_g) == (0, None)
    assert "carbon_country='FRA' needs CodeCarbon (pip install codecarbon estimates it)" in used.source


def test_a_tracker_that_fails_does_not_end_a_run(codecarbon, tmp_path, monkeypatch):
    def failing(**options):
        raise RuntimeError("no\ncpu")

    codecarbon.OfflineEmissionsTracker = failing
    assert "CodeCarbon 3.0 failed: no cpu" in EnergyMeter("cpu", None, tmp_path).stop().source
    codecarbon.OfflineEmissionsTracker = Tracker
    monkeypatch.setattr(Tracker, "stop", failing)
    assert "CodeCarbon 3.0 gave no estimate" in EnergyMeter("cpu", None, tmp_path).stop().source
