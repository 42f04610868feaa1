"""Fingerprints of what a run's numbers depend on beside its settings: code, data files, files that settings name.

The code is what the run imports (:mod:`import_closure`): the training, its own model, the model under it. Another
model, the command line or a report may change without making a kept run stale.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

from recbole_diffusion import registry
from recbole_diffusion.data import cache_key
from recbole_diffusion.experiment.jobs.import_closure import INSTALLED, Sources, closure
from recbole_diffusion.settings import scopes
from recbole_diffusion.settings.places import PACKAGED
from recbole_diffusion.support import yaml_files
from recbole_diffusion.support.versions import version

OURS = "recbole_diffusion"
#: What runs: the training, and the job around it.
_ENTRIES = (f"{OURS}.quick_start", f"{OURS}.experiment.jobs.run_job")
#: Modules that no number depends on: they write text, keep files, or find models, which is a part of the fingerprint.
BESIDE = frozenset(
    {OURS, f"{OURS}.registry", f"{OURS}.cards", f"{OURS}.cards.card", f"{OURS}.cards.model_spec"}
    | {f"{OURS}.cards.own_models", f"{OURS}.training.run_folder", f"{OURS}.training.run_log"}
    | {f"{OURS}.training.run_result", f"{OURS}.support.terminal"}
    | {f"{OURS}.support.versions", f"{OURS}.support.atomic_write"}
    | {f"{OURS}.experiment", f"{OURS}.experiment.jobs", f"{OURS}.experiment.jobs.run_spec"}
)
_LIBRARIES = ("recbole", "torch", "numpy", "scipy", "pandas")
#: Settings that name a file or a folder.
PATHS = scopes.keys(scopes.Scope.PATH)
#: Settings that decide which code runs beside the model.
DECIDING = ("preset", "pretrain", "base_model", "base_checkpoint")
#: Paths that a run reads.
READ = tuple(sorted(scopes.keys(scopes.Scope.CONTENT)))


class Places(NamedTuple):
    """Where our own code and yaml files lie."""

    package: Path = Path(__file__).parents[2]
    properties: Path = yaml_files.properties()


def absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with paths that do not depend on where a worker stands; ``data_path: recbole`` is none."""

    def whole(key: str, value: Any) -> Any:
        word = not isinstance(value, str) or not value or (key == "data_path" and value == PACKAGED)
        return value if word or key not in PATHS else os.path.abspath(os.path.expanduser(value))

    return {key: whole(key, value) for key, value in settings.items()}


def code_fingerprint(model: Any, settings: Optional[Mapping[str, Any]] = None, places: Optional[Places] = None) -> str:
    """A hash of the code and the default settings that a run depends on, and of the libraries' versions.

    Args:
        model: what ``run`` takes.
        settings: of the run; those of :data:`DECIDING` name the preset and the model under it.
        places: of our own files; None: of this package.
    """
    digest, (package, properties) = hashlib.sha256(), places or Places()
    roots, packages, beside = list(_ENTRIES), {OURS: package}, set()
    files = [properties / name for name in ("overall.yaml", "recbole.yaml", "recbole-models.yaml")]
    preset = (settings or {}).get("preset")
    for each in dict.fromkeys([model, *_bases(model, settings or {})]):
        digest.update(_as_registered(each).encode())
        for kind in registry.get_model(each).__mro__:
            roots.append(kind.__module__)
            if _is_foreign(kind):
                roots += [file.stem for file in [_source_of(kind)] if file and kind.__module__ == "__main__"]
                digest.update(_text(kind))
                found = _home(kind)
                packages.update(found.packages)
                beside.update(found.beside)
        spec = registry.find_spec(each)
        if spec is not None:
            roots += [path.partition(":")[0] for path in (spec.trainer, spec.dataset) if path]
            files += [Path(spec.properties) if spec.properties else properties / "model" / f"{spec.name}.yaml"]
            files += [properties / str(preset) / f"{spec.name}.yaml"] if preset else []
    sources = closure(roots, Sources(packages, sorted(beside)), BESIDE)
    _add(digest, [*sources.items(), *((file.name, file) for file in files)])
    digest.update(str([version(library) for library in _LIBRARIES]).encode())
    return digest.hexdigest()[:20]


def _bases(model: Any, settings: Mapping[str, Any]) -> list[Any]:
    """The models that a run trains or loads first. A checkpoint may hold any of ours."""
    spec = registry.find_spec(model)
    defaults = yaml_files.load_yaml(spec.defaults) if spec is not None and spec.defaults.is_file() else {}
    keys = {**defaults, **settings}
    source = keys.get("pretrain")
    if isinstance(source, str) or isinstance(keys.get("base_checkpoint"), str):
        return sorted(registry.specs())
    trained = [source.get("model")] if isinstance(source, dict) else []
    return [each for each in [*trained, keys.get("base_model")] if each]


def _as_registered(model: Any) -> str:
    """What the registry, whose text is left out, says of the model."""
    spec, kind = registry.find_spec(model), registry.get_model(model)
    fields = (spec.task, spec.loader, spec.trainer, spec.dataset, "time" in spec.needs) if spec else ()
    return repr((f"{kind.__module__}:{kind.__qualname__}", registry.is_user_wise(kind), fields))


def _is_foreign(kind: type) -> bool:
    """Whether a class is neither ours nor of a library that its version or Python's stands for."""
    if kind.__module__.split(".")[0] in {OURS, "recbole", "torch", "builtins"}:
        return False
    file = _source_of(kind)
    return file is not None and (
        Path(sysconfig.get_path("stdlib")) not in file.parents or bool(INSTALLED & {*file.parts})
    )


def _source_of(kind: type) -> Optional[Path]:
    try:
        return Path(inspect.getfile(kind)).absolute()
    except (TypeError, OSError):  # made in a session, without a file
        return None


def _text(kind: type) -> bytes:
    file = _source_of(kind)
    return file.read_bytes() if file is not None and file.is_file() else b""


def _home(kind: type) -> Sources:
    """Where the imports of a class's module are looked for: in its package, and beside its script or package."""
    file, (top, *rest) = _source_of(kind), kind.__module__.split(".")
    if file is None:
        return Sources({})
    is_package = file.name == "__init__.py"
    if not rest and not is_package:
        return Sources({}, [file.parent])
    package = file.parents[len(rest) - (not is_package)]
    return Sources({top: package}, [package.parent])


def _add(digest: Any, files: Iterable[tuple[str, Path]]) -> None:
    for name, file in files:
        if file.is_file():
            digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")


def files_fingerprint(settings: Mapping[str, Any]) -> str:
    """A hash of the files that settings name, wherever they lie; empty without any."""
    files = [Path(settings[key]) for key in READ if isinstance(settings.get(key), str)]
    return ";".join(
        _content(str(file), file.stat().st_size, file.stat().st_ctime_ns) for file in files if file.is_file()
    )


@functools.cache
def _content(file: str, size: int, changed: int) -> str:
    """Once for all runs of a plan."""
    return cache_key.file_hash(Path(file))[:20]


def data_fingerprint(config: Any) -> str:
    """A hash of the data set's files: the split's hash knows no times, ratings or features."""
    return cache_key.files_hash(Path(config["data_path"]), config["dataset"])[:20]
