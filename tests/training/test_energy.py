"""The energy meter, on a folder with the counters of a machine."""

from __future__ import annotations

import pytest

from recbole_diffusion import run
from recbole_diffusion.training import energy, run_cost
from recbole_diffusion.training.energy import Energy, EnergyMeter

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
    monkeypatch.setattr(run_cost, "EnergyMeter", lambda device, factor: EnergyMeter(device, factor, powercap))
    result = run("DiffRec", "board", config_dict={**settings, **QUICK, "carbon_intensity": 100}, saved=False)
    assert result["timing"]["energy_wh"] == 0
    assert "; 0 Wh, 0 g CO2" in result.table()


def test_a_run_without_counters_has_none(settings, monkeypatch, tmp_path):
    monkeypatch.setattr(run_cost, "EnergyMeter", lambda device, factor: EnergyMeter(device, factor, tmp_path))
    result = run("DiffRec", "board", config_dict={**settings, **QUICK}, saved=False)
    assert result["timing"]["energy_wh"] is None
    assert "no RAPL" in result["timing"]["energy_source"]
    assert "Wh" not in result.table()
