"""``recbole-diffusion doctor``: what is installed, what is known to fail, and the line that mends it."""

from __future__ import annotations

import importlib.util
import sys
from typing import Callable, NamedTuple, Optional

from recbole_diffusion.runs import PACKAGES, version

Versions = dict[str, Optional[tuple[int, ...]]]


class Fault(NamedTuple):
    """A known-bad combination: when it holds, what fails, the line that mends it."""

    holds: Callable[[Versions], bool]
    what: str
    mend: str


class Repaired(NamedTuple):
    """A combination that fails in RecBole alone and that this package repairs."""

    holds: Callable[[Versions], bool]
    what: str


def parse(text: Optional[str]) -> Optional[tuple[int, ...]]:
    """``"2.13.0+cpu"`` to (2, 13, 0); None stays None."""
    if text is None:
        return None
    numbers = []
    for part in text.split("+")[0].split("."):
        digits = "".join(character for character in part if character.isdigit())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def installed() -> Versions:
    """Versions of everything that a rule looks at."""
    names = (*PACKAGES, "setuptools", "pyarrow", "hyperopt")
    found: Versions = {name: parse(version(name)) for name in names}
    found["python"] = sys.version_info[:3]
    return found


def _below(found: Versions, name: str, bound: tuple[int, ...]) -> bool:
    have = found.get(name)
    return have is not None and have < bound


def _from(found: Versions, name: str, bound: tuple[int, ...]) -> bool:
    have = found.get(name)
    return have is not None and have >= bound


def _old_ray(found: Versions) -> bool:
    return _below(found, "ray", (2, 7))


def _agent_fails(found: Versions) -> bool:
    parts = ("aiohttp", "aiohttp_cors", "opencensus", "prometheus_client", "pydantic")
    present = all(importlib.util.find_spec(part) for part in parts)
    return _old_ray(found) and present and importlib.util.find_spec("async_timeout") is None


FAULTS = (
    Fault(lambda v: v["recbole"] is None, "RecBole is not installed", "pip install --no-deps recbole==1.2.1"),
    Fault(
        lambda v: v["recbole"] is not None and v["recbole"] != (1, 2, 1),
        "RecBole is not 1.2.1, the release that this package extends",
        "pip install --no-deps recbole==1.2.1",
    ),
    Fault(lambda v: v["torch"] is None, "torch is not installed", "pip install torch"),
    Fault(
        lambda v: _below(v, "torch", (1, 12)),
        "torch is older than 1.12, the oldest tested",
        "pip install 'torch>=1.12'",
    ),
    Fault(
        lambda v: _below(v, "torch", (2, 3)) and _from(v, "numpy", (2,)),
        "torch before 2.3 cannot read numpy 2 arrays",
        "pip install 'numpy<2'",
    ),
    Fault(
        lambda v: _old_ray(v) and _from(v, "numpy", (2,)),
        "ray 2.6.3 does not import on numpy 2 (np.bool8); only the commands that use ray fail",
        "pip install 'ray[tune]>=2.49'   (pip then reports RecBole's ray<=2.6.3, harmlessly), or pip install 'numpy<2'",
    ),
    Fault(
        lambda v: _old_ray(v) and _from(v, "setuptools", (82,)),
        "ray 2.6.3 needs pkg_resources, gone in setuptools 82; only the commands that use ray fail",
        "pip install 'setuptools<82'",
    ),
    Fault(
        lambda v: v["ray"] is not None and _from(v, "pyarrow", (26,)) and _below(v, "numpy", (2,)),
        "pyarrow 26 refuses numpy 1, and every ray task dies with it",
        "pip install 'pyarrow<26'",
    ),
    Fault(
        _agent_fails,
        "ray 2.6.3's agent dies without async-timeout once aiohttp and the others are there",
        "pip install async-timeout",
    ),
    Fault(
        lambda v: _from(v, "hyperopt", (0, 2, 6)),
        "RecBole's exhaustive search fails with hyperopt after 0.2.5",
        "pip install hyperopt==0.2.5",
    ),
)

REPAIRED = (
    Repaired(lambda v: _from(v, "torch", (2, 6)), "torch >= 2.6 refuses RecBole's pickled checkpoints"),
    Repaired(lambda v: _from(v, "scipy", (1, 13)), "scipy >= 1.13 breaks LightGCN, NGCF, NCL, GCMC, SpectralCF"),
    Repaired(lambda v: _from(v, "numpy", (2,)), "numpy 2 breaks RecBole's Config"),
    Repaired(lambda v: _from(v, "pandas", (3,)), "pandas 3 breaks RecBole's feature columns"),
)


def report(found: Optional[Versions] = None) -> tuple[str, bool]:
    """The text and whether nothing is wrong."""
    found = installed() if found is None else found
    lines = [f"{name:18} {'.'.join(map(str, have)) if have else 'not installed'}" for name, have in found.items()]
    repaired = [each for each in REPAIRED if each.holds(found)]
    if repaired:
        lines += ["", "repaired by this package:", *(f"  {each.what}" for each in repaired)]
    faults = [each for each in FAULTS if each.holds(found)]
    for fault in faults:
        lines += ["", f"PROBLEM: {fault.what}", f"  mend:  {fault.mend}"]
    lines += ["", f"{len(faults)} problem(s) found" if faults else "no known problem"]
    return "\n".join(lines), not faults
