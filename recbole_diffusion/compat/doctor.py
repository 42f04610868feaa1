"""``recbole-diffusion doctor``: what is installed, what is known to fail, and the line that mends it.

Versions come from the packages' metadata, and each library is imported in a process of its own: this one imports none
of them, so that it can report what it looks for.
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

#: What is imported of each library, and tried where an import alone says nothing.
PROBES = {
    "numpy": "import numpy",
    "torch": "import torch; torch.zeros(1).numpy()",
    "pandas": "import pandas",
    "scipy": "import scipy.sparse, scipy.stats",
    "ray": "import ray",
    "RecBole": "import recbole.config, recbole.data, recbole.trainer; import recbole_diffusion.quick_start, texttable",
}
#: Seconds for all of them together; a file system on a network takes its time.
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
    """A known-bad combination: when it holds, what fails, the line that mends it."""

    holds: Callable[[Versions], bool]
    what: str
    mend: str


class Repaired(NamedTuple):
    """A combination that fails in RecBole alone and that this package repairs."""

    holds: Callable[[Versions], bool]
    what: str


def parse(text: Optional[str]) -> Optional[Version]:
    """The version without its build tag (``+cpu``); None stays None."""
    if text is None:
        return None
    try:
        return Version(Version(text).public)
    except InvalidVersion:  # a distributor's own
        release = re.match(r"\d+(\.\d+)*", text)
        return Version(release[0] if release else "0")


def installed() -> dict[str, Optional[Version]]:
    """Versions of everything that a rule looks at."""
    names = (*PACKAGES, "setuptools", "pyarrow", "hyperopt")
    return {**{name: parse(version(name)) for name in names}, "python": Version(platform.python_version().rstrip("+"))}


def probe(timeout: float = TIMEOUT) -> dict[str, Failure]:
    """Import each library in a process of its own, all at once; the failures by library."""
    processes = {name: _start(name, code) for name, code in PROBES.items()}
    until = monotonic() + timeout
    failures = {name: _result(name, process, until) for name, process in processes.items()}
    return {name: failure for name, failure in failures.items() if failure is not None}


def _start(name: str, code: str) -> subprocess.Popen[str]:
    text = _PROBE.format(path=sys.path, code=code, mark=_MARK, library=name)
    silent = subprocess.DEVNULL
    command = [sys.executable, "-c", text]
    return subprocess.Popen(command, stdin=silent, stdout=subprocess.PIPE, stderr=silent, text=True)


def _result(name: str, process: subprocess.Popen[str], until: float) -> Optional[Failure]:
    try:
        output, _ = process.communicate(timeout=max(until - monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Failure(name, False, "the import did not end in time")
    found = [line[len(_MARK) :] for line in output.splitlines() if line.startswith(_MARK)]
    if found:
        return Failure(*json.loads(found[-1]))
    if process.returncode:
        return Failure(name, False, f"the import ended the process {_status(process.returncode)}")
    return None


def _status(code: int) -> str:
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"with status {code}"


def _below(found: Versions, name: str, bound: str) -> bool:
    have = found.get(name)
    return have is not None and have < Version(bound)


def _from(found: Versions, name: str, bound: str) -> bool:
    have = found.get(name)
    return have is not None and have >= Version(bound)


def _old_ray(found: Versions) -> bool:
    return _below(found, "ray", "2.7")


def _agent_fails(found: Versions) -> bool:
    parts = ("aiohttp", "aiohttp_cors", "opencensus", "prometheus_client", "pydantic")
    present = all(importlib.util.find_spec(part) for part in parts)
    return _old_ray(found) and present and importlib.util.find_spec("async_timeout") is None


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
        lambda v: _below(v, "torch", "2.3") and _from(v, "numpy", "2"),
        "torch before 2.3 cannot read numpy 2 arrays",
        "pip install 'numpy<2'",
    ),
    Fault(
        lambda v: _old_ray(v) and _from(v, "numpy", "2"),
        "ray 2.6.3 does not import on numpy 2 (np.bool8); only the commands that use ray fail",
        "pip install 'ray[tune]>=2.49'   (pip then reports RecBole's ray<=2.6.3, harmlessly), or pip install 'numpy<2'",
    ),
    Fault(
        lambda v: _old_ray(v) and _from(v, "setuptools", "82"),
        "ray 2.6.3 needs pkg_resources, gone in setuptools 82; only the commands that use ray fail",
        "pip install 'setuptools<82'",
    ),
    Fault(
        lambda v: v["ray"] is not None and _from(v, "pyarrow", "26") and _below(v, "numpy", "2"),
        "pyarrow 26 refuses numpy 1, and every ray task dies with it",
        "pip install 'pyarrow<26'",
    ),
    Fault(
        _agent_fails,
        "ray 2.6.3's agent dies without async-timeout once aiohttp and the others are there",
        "pip install async-timeout",
    ),
    Fault(
        lambda v: _from(v, "hyperopt", "0.2.6"),
        "RecBole's exhaustive search fails with hyperopt after 0.2.5",
        "pip install hyperopt==0.2.5",
    ),
)

REPAIRED = (
    Repaired(lambda v: _from(v, "torch", "2.6"), "torch >= 2.6 refuses RecBole's pickled checkpoints"),
    Repaired(lambda v: _from(v, "scipy", "1.13"), "scipy >= 1.13 breaks LightGCN, NGCF, NCL, GCMC, SpectralCF"),
    Repaired(lambda v: _from(v, "numpy", "2"), "numpy 2 breaks RecBole's Config"),
    Repaired(lambda v: _from(v, "pandas", "3"), "pandas 3 breaks RecBole's feature columns"),
)


def report(found: Optional[Versions] = None, failures: Optional[Failures] = None) -> tuple[str, bool]:
    """The text and whether nothing is wrong.

    Args:
        found: versions; None: the installed ones.
        failures: of imports; None: they are tried.
    """
    found = installed() if found is None else found
    failures = probe() if failures is None else failures
    causes = {failure.library: failure for failure in failures.values()}
    lines = [f"{name:18} {_state(have, causes.get(name))}" for name, have in found.items()]
    repaired = [each for each in REPAIRED if each.holds(found)]
    if repaired:
        lines += ["", "repaired by this package:", *(f"  {each.what}" for each in repaired)]
    problems = [(fault.what, fault.mend) for fault in FAULTS if fault.holds(found)]
    problems += _unexplained(found, failures, problems)
    for what, mend in problems:
        lines += ["", f"PROBLEM: {what}", f"  mend:  {mend}"]
    lines += ["", f"{len(problems)} problem(s) found" if problems else "no known problem"]
    return "\n".join(lines), not problems


def _state(have: Optional[Version], failure: Optional[Failure]) -> str:
    if have is None:
        return "not installed" if failure is None or failure.missing else "cannot be imported"
    return str(have) if failure is None else f"{have} (cannot be imported)"


def _unexplained(found: Versions, failures: Failures, problems: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Problem and fix of each failure that no known problem explains; torch's is RecBole's and ours too, once."""
    unexplained: list[tuple[str, str]] = []
    causes: set[str] = set()
    for name, failure in failures.items():
        library = "RecBole" if failure.library == "recbole" else failure.library or name
        known = any(what.startswith((f"{library} ", f"{name} ")) for what, _ in problems)
        if library in causes or known or (name == "ray" and found.get("ray") is None):
            continue
        causes.add(library)
        what = f"{library} cannot be imported: {failure.reason}"
        what = f"{library} is not installed, which {name} needs" if failure.missing else what
        unexplained.append((what + ("; only the commands that use ray fail" if name == "ray" else ""), failure.fix))
    return unexplained
