"""Fingerprints of everything that a run's numbers depend on beside its settings: code, data files, files in settings.

The code is the import closure of the run (:mod:`import_closure`): the training, its model, its base model. Changes of
other models, the command line or a report leave the fingerprint unchanged.
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
#: Entry points of a run: the training, and the job around it.
_ENTRY_POINTS = (f"{OURS}.quick_start", f"{OURS}.experiment.jobs.run_job")
#: Modules that no number depends on: they print, write files, or find models. The models found are fingerprinted.
BESIDE = frozenset(
    {OURS, f"{OURS}.registry", f"{OURS}.cards", f"{OURS}.cards.card", f"{OURS}.cards.model_spec"}
    | {f"{OURS}.cards.own_models", f"{OURS}.training.run_folder", f"{OURS}.training.run_log"}
    | {f"{OURS}.training.run_result", f"{OURS}.support.terminal"}
    | {f"{OURS}.support.versions", f"{OURS}.support.atomic_write", f"{OURS}.support.atomic_folder"}
    | {f"{OURS}.support.temporary_folder"}
    | {f"{OURS}.evaluation.ranked_lists", f"{OURS}.evaluation.list_evaluation", f"{OURS}.evaluation.kept_split"}
    | {f"{OURS}.experiment", f"{OURS}.experiment.jobs", f"{OURS}.experiment.jobs.run_spec"}
)
_LIBRARIES = ("recbole", "torch", "numpy", "scipy", "pandas")
#: Settings that name a file or a folder.
PATHS = scopes.keys(scopes.Scope.PATH)
#: Settings that decide which code runs beside the model.
DECIDING = ("preset", "pretrain", "base_model", "base_checkpoint")
#: Paths that a run reads.
READ = tuple(sorted(scopes.keys(scopes.Scope.CONTENT)))


class PackageFolders(NamedTuple):
    """The folders of this package's code and yaml files."""

    package: Path = Path(__file__).parents[2]
    properties: Path = yaml_files.properties()


def absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with absolute paths, for workers with other working directories.

    ``data_path: recbole`` is not a path but the data that come with RecBole.
    """

    def absolute_value(key: str, value: Any) -> Any:
        is_path = key in PATHS and isinstance(value, str) and value and not (key == "data_path" and value == PACKAGED)
        return os.path.abspath(os.path.expanduser(value)) if is_path else value

    return {key: absolute_value(key, value) for key, value in settings.items()}


def code_fingerprint(
    model: Any, settings: Optional[Mapping[str, Any]] = None, folders: Optional[PackageFolders] = None
) -> str:
    """Return a hash of the code, the default settings and the library versions that a run depends on.

    Args:
        model: as ``run`` takes it.
        settings: of the run; those of :data:`DECIDING` name its preset and its base model.
        folders: of this package's files; None: of the installed package.

    Returns:
        20 hexadecimal digits.
    """
    digest, (package, properties) = hashlib.sha256(), folders or PackageFolders()
    roots, packages, script_folders = list(_ENTRY_POINTS), {OURS: package}, set()
    files = [properties / name for name in ("overall.yaml", "recbole.yaml", "recbole-models.yaml")]
    preset = (settings or {}).get("preset")
    for used_model in dict.fromkeys([model, *_base_models(model, settings or {})]):
        digest.update(_registered_as(used_model).encode())
        for ancestor in registry.get_model(used_model).__mro__:
            roots.append(ancestor.__module__)
            if _is_foreign(ancestor):
                roots += [file.stem for file in [_source_of(ancestor)] if file and ancestor.__module__ == "__main__"]
                digest.update(_source_bytes(ancestor))
                sources = _import_sources(ancestor)
                packages.update(sources.packages)
                script_folders.update(sources.script_folders)
        spec = registry.find_spec(used_model)
        if spec is not None:
            roots += [path.partition(":")[0] for path in (spec.trainer, spec.dataset) if path]
            files += [Path(spec.properties) if spec.properties else properties / "model" / f"{spec.name}.yaml"]
            files += [properties / str(preset) / f"{spec.name}.yaml"] if preset else []
    modules = closure(roots, Sources(packages, sorted(script_folders)), BESIDE)
    _update_with_files(digest, [*modules.items(), *((file.name, file) for file in files)])
    digest.update(str([version(library) for library in _LIBRARIES]).encode())
    return digest.hexdigest()[:20]


def _base_models(model: Any, settings: Mapping[str, Any]) -> list[Any]:
    """The models that a run trains or loads first. A checkpoint may hold any model of this package."""
    spec = registry.find_spec(model)
    defaults = yaml_files.load_yaml(spec.defaults) if spec is not None and spec.defaults.is_file() else {}
    keys = {**defaults, **settings}
    source = keys.get("pretrain")
    if isinstance(source, str) or isinstance(keys.get("base_checkpoint"), str):
        return sorted(registry.specs())
    trained = [source.get("model")] if isinstance(source, dict) else []
    return [base for base in [*trained, keys.get("base_model")] if base]


def _registered_as(model: Any) -> str:
    """The model's entry in the registry, whose source file is not part of the fingerprint."""
    spec, model_class = registry.find_spec(model), registry.get_model(model)
    fields = (spec.task, spec.loader, spec.trainer, spec.dataset, "time" in spec.needs) if spec else ()
    name = f"{model_class.__module__}:{model_class.__qualname__}"
    return repr((name, registry.is_user_wise(model_class), fields))


def _is_foreign(model_class: type) -> bool:
    """Whether a class is neither of this package nor of a library whose version is part of the fingerprint."""
    if model_class.__module__.split(".")[0] in {OURS, "recbole", "torch", "builtins"}:
        return False
    file = _source_of(model_class)
    return file is not None and (
        Path(sysconfig.get_path("stdlib")) not in file.parents or bool(INSTALLED & {*file.parts})
    )


def _source_of(model_class: type) -> Optional[Path]:
    try:
        return Path(inspect.getfile(model_class)).absolute()
    except (TypeError, OSError):  # defined in an interactive session
        return None


def _source_bytes(model_class: type) -> bytes:
    file = _source_of(model_class)
    return file.read_bytes() if file is not None and file.is_file() else b""


def _import_sources(model_class: type) -> Sources:
    """Where to look for the imports of a class's module: in its package, and beside its script or package."""
    file, (top, *rest) = _source_of(model_class), model_class.__module__.split(".")
    if file is None:
        return Sources({})
    is_package = file.name == "__init__.py"
    if not rest and not is_package:
        return Sources({}, [file.parent])
    package = file.parents[len(rest) - (not is_package)]
    return Sources({top: package}, [package.parent])


def _update_with_files(digest: Any, files: Iterable[tuple[str, Path]]) -> None:
    for name, file in files:
        if file.is_file():
            digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")


def files_fingerprint(settings: Mapping[str, Any]) -> str:
    """Return a hash of the content of the files that settings name; empty if they name none."""
    files = [Path(settings[key]) for key in READ if isinstance(settings.get(key), str)]
    return ";".join(
        _file_hash(str(file), file.stat().st_size, file.stat().st_ctime_ns) for file in files if file.is_file()
    )


@functools.cache
def _file_hash(file: str, size: int, changed_ns: int) -> str:
    """The file's hash, computed once for all runs of a plan."""
    return cache_key.file_hash(Path(file))[:20]


def data_fingerprint(config: Any) -> str:
    """Return a hash of the data set's files; the split's hash leaves out times, ratings and features."""
    return cache_key.files_hash(Path(config["data_path"]), config["dataset"])[:20]
