"""``recbole-diffusion doctor``: installed versions, known faults, and the command that fixes each.

Versions come from the packages' metadata. Each library is imported in a subprocess. This process imports none of them,
so that it can report a library that crashes on import.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Callable, NamedTuple, Optional

from packaging.version import InvalidVersion, Version

from recbole_diffusion.support.libraries import RECBOLE, Failure
from recbole_diffusion.support.versions import PACKAGES, version

Versions = Mapping[str, Optional[Version]]
Failures = Mapping[str, Failure]

#: Code that tests each library in a subprocess: its import, and a call where the import alone proves nothing.
PROBES = {
    "numpy": "import numpy",
    "torch": "import torch; torch.zeros(1).numpy()",
    "pandas": "import pandas",
    "scipy": "import scipy.sparse, scipy.stats",
    "ray": "import ray",
    "RecBole": "import recbole.config, recbole.data, recbole.trainer; import recbole_diffusion.quick_start, texttable",
}
#: Seconds for all probes together; imports from a network file system are slow.
TIMEOUT = 180.0
_MARK = "recbole-diffusion probe: "
_PROBE = """
import json, sys
sys.path[:] = {path!r}
try:
    exec({code!r})
except BaseException as error:
    from recbole_diffusion.support.libraries import Failure, failure_of
    reason = type(error).__name__ + ": " + " ".join(str(error).split())[:300]
    print("\\n" + {mark!r} + json.dumps(failure_of(error) or Failure({library!r}, False, reason)), flush=True)
"""


class Fault(NamedTuple):
    """A combination of versions that is known to fail.

    Attributes:
        holds: whether the installed versions are such a combination.
        what: the failure, one line.
        fix: the command that fixes it.
    """

    holds: Callable[[Versions], bool]
    what: str
    fix: str


class Repaired(NamedTuple):
    """A combination that fails in RecBole and that this package repairs.

    Attributes:
        holds: whether the installed versions are such a combination.
        what: the failure, one line.
    """

    holds: Callable[[Versions], bool]
    what: str


def parse(text: Optional[str]) -> Optional[Version]:
    """Parse a version without its build tag (``+cpu``); None stays None."""
    if text is None:
        return None
    try:
        return Version(Version(text).public)
    except InvalidVersion:  # a distributor's format
        release = re.match(r"\d+(\.\d+)*", text)
        return Version(release[0] if release else "0")


def installed() -> dict[str, Optional[Version]]:
    """Versions of all packages that :data:`FAULTS` and :data:`REPAIRED` look at; None where not installed."""
    names = (*PACKAGES, "setuptools", "pyarrow", "hyperopt")
    return {**{name: parse(version(name)) for name in names}, "python": Version(platform.python_version().rstrip("+"))}


def probe(timeout: float = TIMEOUT) -> dict[str, Failure]:
    """Import each library in a subprocess, all of them in parallel.

    Args:
        timeout: seconds for all of them together.

    Returns:
        The failures by library; empty where every import worked.
    """
    subprocesses = {name: _start(name, code) for name, code in PROBES.items()}
    deadline = monotonic() + timeout
    failures = {name: _failure_of(name, started, deadline) for name, started in subprocesses.items()}
    return {name: failure for name, failure in failures.items() if failure is not None}


def _start(name: str, code: str) -> subprocess.Popen[str]:
    program = _PROBE.format(path=sys.path, code=code, mark=_MARK, library=name)
    devnull = subprocess.DEVNULL
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, stdin=devnull, stdout=subprocess.PIPE, stderr=devnull, text=True)


def _failure_of(name: str, started: subprocess.Popen[str], deadline: float) -> Optional[Failure]:
    """Wait for a probe until ``deadline``; None where the import worked."""
    try:
        output, _ = started.communicate(timeout=max(deadline - monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        started.kill()
        started.communicate()
        return Failure(name, False, "the import did not end in time")
    failures = [line[len(_MARK) :] for line in output.splitlines() if line.startswith(_MARK)]
    if failures:
        return Failure(*json.loads(failures[-1]))
    if started.returncode:
        return Failure(name, False, f"the import ended the process {_exit_reason(started.returncode)}")
    return None


def _exit_reason(code: int) -> str:
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"with status {code}"


def _below(versions: Versions, name: str, bound: str) -> bool:
    installed_version = versions.get(name)
    return installed_version is not None and installed_version < Version(bound)


def _at_least(versions: Versions, name: str, bound: str) -> bool:
    installed_version = versions.get(name)
    return installed_version is not None and installed_version >= Version(bound)


def _has_old_ray(versions: Versions) -> bool:
    return _below(versions, "ray", "2.7")


def _ray_agent_fails(versions: Versions) -> bool:
    agent_imports = ("aiohttp", "aiohttp_cors", "opencensus", "prometheus_client", "pydantic")
    starts_agent = all(importlib.util.find_spec(module) for module in agent_imports)
    return _has_old_ray(versions) and starts_agent and importlib.util.find_spec("async_timeout") is None


FAULTS = (
    Fault(lambda v: v["recbole"] is None, "RecBole is not installed", RECBOLE),
    Fault(
        lambda v: v["recbole"] is not None and v["recbole"] != Version("1.2.1"),
        "RecBole is not 1.2.1, the release that this package extends",
        RECBOLE,
    ),
    Fault(lambda v: v["torch"] is None, "torch is not installed", "pip install torch"),
    Fault(lambda v: v["numpy"] is None, "numpy is not installed", "pip install numpy"),
    Fault(lambda v: v["pandas"] is None, "pandas is not installed", "pip install pandas"),
    Fault(lambda v: v["scipy"] is None, "scipy is not installed", "pip install scipy"),
    Fault(
        lambda v: _below(v, "torch", "1.12"),
        "torch is older than 1.12, the oldest tested",
        "pip install 'torch>=1.12'",
    ),
    Fault(
        lambda v: _below(v, "torch", "2.3") and _at_least(v, "numpy", "2"),
        "torch before 2.3 cannot read numpy 2 arrays",
        "pip install 'numpy<2'",
    ),
    Fault(
        lambda v: _has_old_ray(v) and _at_least(v, "numpy", "2"),
        "ray 2.6.3 does not import on numpy 2 (np.bool8); only the commands that use ray fail",
        "pip install 'ray[tune]>=2.49'   (pip then reports RecBole's ray<=2.6.3, harmlessly), or pip install 'numpy<2'",
    ),
    Fault(
        lambda v: _has_old_ray(v) and _at_least(v, "setuptools", "82"),
        "ray 2.6.3 needs pkg_resources, gone in setuptools 82; only the commands that use ray fail",
        "pip install 'setuptools<82'",
    ),
    Fault(
        lambda v: v["ray"] is not None and _at_least(v, "pyarrow", "26") and _below(v, "numpy", "2"),
        "pyarrow 26 refuses numpy 1, and every ray task dies with it",
        "pip install 'pyarrow<26'",
    ),
    Fault(
        _ray_agent_fails,
        "ray 2.6.3's agent dies without async-timeout where aiohttp and its other imports are installed",
        "pip install async-timeout",
    ),
    Fault(
        lambda v: _at_least(v, "hyperopt", "0.2.6"),
        "RecBole's exhaustive search fails with hyperopt after 0.2.5",
        "pip install hyperopt==0.2.5",
    ),
)

REPAIRED = (
    Repaired(lambda v: _at_least(v, "torch", "2.6"), "torch >= 2.6 refuses RecBole's pickled checkpoints"),
    Repaired(lambda v: _at_least(v, "scipy", "1.13"), "scipy >= 1.13 breaks LightGCN, NGCF, NCL, GCMC, SpectralCF"),
    Repaired(lambda v: _at_least(v, "numpy", "2"), "numpy 2 breaks RecBole's Config"),
    Repaired(lambda v: _at_least(v, "pandas", "3"), "pandas 3 breaks RecBole's feature columns"),
)


def report(versions: Optional[Versions] = None, failures: Optional[Failures] = None) -> tuple[str, bool]:
    """The report for people, and whether the installation has no problem.

    Args:
        versions: by package; None: the installed ones.
        failures: of imports, by library; None: :func:`probe` tries them.
    """
    versions = installed() if versions is None else versions
    failures = probe() if failures is None else failures
    causes = {failure.library: failure for failure in failures.values()}
    lines = [f"{name:18} {_state(version, causes.get(name))}" for name, version in versions.items()]
    repaired = [combination.what for combination in REPAIRED if combination.holds(versions)]
    if repaired:
        lines += ["", "repaired by this package:", *(f"  {what}" for what in repaired)]
    problems = [(fault.what, fault.fix) for fault in FAULTS if fault.holds(versions)]
    problems += _unexplained(versions, failures, problems)
    for what, fix in problems:
        lines += ["", f"PROBLEM: {what}", f"  mend:  {fix}"]
    lines += ["", f"{len(problems)} problem(s) found" if problems else "no known problem"]
    return "\n".join(lines), not problems


def _state(installed_version: Optional[Version], failure: Optional[Failure]) -> str:
    if installed_version is None:
        return "not installed" if failure is None or failure.missing else "cannot be imported"
    return str(installed_version) if failure is None else f"{installed_version} (cannot be imported)"


def _unexplained(versions: Versions, failures: Failures, problems: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Problem and fix of each failure that no known problem explains.

    A failure of torch is also one of RecBole and of this package; it is listed once.
    """
    unexplained: list[tuple[str, str]] = []
    causes: set[str] = set()
    for name, failure in failures.items():
        library = "RecBole" if failure.library == "recbole" else failure.library or name
        known = any(what.startswith((f"{library} ", f"{name} ")) for what, _ in problems)
        if library in causes or known or (name == "ray" and versions.get("ray") is None):
            continue
        causes.add(library)
        if failure.missing:
            what = f"{library} is not installed, which {name} needs"
        else:
            what = f"{library} cannot be imported: {failure.reason}"
        unexplained.append((what + ("; only the commands that use ray fail" if name == "ray" else ""), failure.fix))
    return unexplained
