"""Diagnosis of failed imports: the library that failed, and the command that repairs it. Imports no library."""

from __future__ import annotations

import importlib.util
import linecache
import re
import traceback
from types import FrameType
from typing import NamedTuple, Optional

from recbole_diffusion.support.versions import version

#: Libraries that every training needs, in the order of their dependencies.
NEEDED = ("numpy", "torch", "pandas", "scipy", "recbole")
#: Without dependencies: RecBole's cannot be met on Python 3.12 (ray<=2.6.3), and this package's include the others.
RECBOLE = "pip install --no-deps recbole==1.2.1"
_KNOWN = frozenset({*NEEDED, "ray"})
#: Names on the package index of modules whose name differs.
_DISTRIBUTIONS = {
    "faiss": "faiss-cpu",
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "distutils": "setuptools",
    "pkg_resources": "'setuptools<82'",
    "recbole_diffusion": "recbole-diffusion",
}
#: Error messages of libraries that were compiled for another numpy.
_ABI = re.compile(
    r"size changed, may indicate binary incompat|compiled using NumPy 1|multiarray failed to import|_ARRAY_API"
    r"|numpy is not available|compiled against API version",
    re.IGNORECASE,
)


class Failure(NamedTuple):
    """Why an import failed.

    Attributes:
        library: the top-level module that could not be imported; "" if not known.
        missing: whether it is not installed.
        reason: the error in one line.
    """

    library: str
    missing: bool
    reason: str

    @property
    def line(self) -> str:
        """The failure and the command that repairs it, in one line."""
        name = "RecBole" if self.library == "recbole" else self.library
        if self.missing:
            return f"{name} is not installed: {self.fix}"
        if not name:
            return f"a library cannot be imported ({self.reason}): {self.fix}"
        return f"{name} cannot be imported ({self.reason}): {self.fix}"

    @property
    def fix(self) -> str:
        """The command that repairs it."""
        if self.library == "recbole":
            return RECBOLE if self.missing else f"{RECBOLE} (with --force-reinstall where it is there)"
        if self.missing:
            return f"pip install {_DISTRIBUTIONS.get(self.library, self.library)}"
        if not self.library:
            return "recbole-diffusion doctor"
        if _ABI.search(self.reason) and self.library != "numpy":
            return f"pip install --upgrade {self.library} (made for the installed numpy), or pip install 'numpy<2'"
        installed = (version(self.library) or "").partition("+")[0]  # a build such as +cpu is not on the index
        requirement = f"{self.library}=={installed}" if installed else self.library
        return f"pip install --force-reinstall {'' if self.library == 'torch' else '--no-deps '}{requirement}"


def failure_of(error: BaseException) -> Optional[Failure]:
    """Find the library whose import failed, from an error and its traceback; None for an error of another kind."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [frame for frame in frames if frame.f_code.co_name == "<module>" and _root(frame) != "__main__"]
    if not isinstance(error, ImportError) and not modules:
        return None
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    name = (getattr(error, "name", None) or "").partition(".")
    if isinstance(error, ModuleNotFoundError) and name[0] and (not name[1] or not _is_installed(name[0])):
        return Failure(name[0], True, reason)
    roots = [name[0], *reversed([_root(frame) for frame in frames]), *map(_imported_in, modules[-1:])]
    return Failure(next((root for root in roots if root in _KNOWN), ""), False, reason)


def missing() -> list[Failure]:
    """The needed libraries that are not installed, found without importing them."""
    return [Failure(name, True, "") for name in NEEDED if not _is_installed(name)]


def explain(error: BaseException) -> Optional[str]:
    """Describe a failed import in one line, with the other missing libraries; None for an error of another kind."""
    first_failure = failure_of(error)
    if first_failure is None:
        return None
    others = [failure for failure in missing() if failure.library != first_failure.library]
    failures = [*others, first_failure] if first_failure.missing else [first_failure, *others]
    failures.sort(key=lambda failure: failure.library != "recbole")
    return "; ".join(failure.line for failure in failures) + "; recbole-diffusion doctor says more"


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _imported_in(frame: FrameType) -> str:
    """The module that the current line of a frame imports."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    match = re.match(r"\s*(?:from|import)\s+(\w+)", line)
    return match[1] if match else ""
