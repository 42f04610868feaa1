"""``enable()``: RecBole's own, unmodified entry points find our models. Opt-in, and ``disable()`` takes it back.

Under it ``recbole.quick_start.run_recbole(model="DiffRec")``, ``load_data_and_model`` and RecBole's hyper-tuning
objective use ours. RecBole's own rules stay in force there: its order of time, its evaluation batches (ours for
our models), its reading of ``sys.argv``. Our runner (:func:`recbole_diffusion.run`) needs none of this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

from recbole_diffusion import registry
from recbole_diffusion.compat import repairs
from recbole_diffusion.support import patch, trusted_files, yaml_files

_undo: list[Callable[[], None]] = []


def enable(trust: bool = False) -> None:
    """Make RecBole's entry points use our models and repair what breaks on today's libraries.

    Call it before ``from recbole.quick_start import …``: importing RecBole's quick_start fails without the repairs
    where ray does. Calling it again changes nothing but ``trust``.

    Args:
        trust: let RecBole unpickle checkpoint files that this process has not written. They can run code.
    """
    repairs.apply()
    trusted_files.trust_all(trust)
    if _undo:
        return
    import recbole.config.configurator as configurator
    import recbole.data
    import recbole.data.dataset as datasets
    import recbole.data.utils as data_utils
    import recbole.trainer as trainers
    import recbole.utils
    import recbole.utils.utils as utils
    from recbole.trainer import Trainer

    from recbole_diffusion.data import pipeline, provenance, sequences
    from recbole_diffusion.pretraining import bases
    from recbole_diffusion.settings.config import Config
    from recbole_diffusion.training.trainer import trainer_class

    quick_start = repairs.quick_start_module()
    specs = registry.specs()
    original_model, original_loader = utils.get_model, data_utils.get_dataloader
    original_yaml = configurator.Config._update_internal_config_dict

    def get_model(name: str) -> Any:
        spec = registry.find_spec(name)
        return registry.load_object(spec.path) if spec is not None else _recbole(original_model, name)

    def get_dataloader(config: Any, phase: str) -> Any:
        ours = registry.find_spec(config["model"]) is not None
        return pipeline.get_dataloader(config, phase) if ours else original_loader(config, phase)

    def _update_internal_config_dict(self: Any, file: str) -> Any:
        path, spec = Path(file), registry.find_spec(self.model)
        if spec is None or isinstance(self, Config):  # RecBole's model, or our runner, which does this itself
            return original_yaml(self, file)
        if path.parent.name == "model":
            return {}
        found = original_yaml(self, file)
        if path.name == "overall.yaml":
            self.internal_config_dict.update(yaml_files.load_yaml(yaml_files.properties() / "overall.yaml"))
        if path.name == "overall.yaml" or path.parent.name == "dataset":
            self.internal_config_dict.update(yaml_files.load_yaml(spec.defaults))
        return found

    changes: list[tuple[Any, str, Any]] = [
        (module, "get_model", get_model) for module in (utils, recbole.utils, configurator, quick_start)
    ]
    original_preparation = quick_start.data_preparation

    def data_preparation(config: Any, dataset: Any) -> Any:
        loaders = original_preparation(config, dataset)
        if registry.find_spec(config["model"]) is not None:
            bases.attach(config, loaders)
            provenance.describe(dataset, loaders)
            sequences.check_lengths(config, loaders)
            sequences.mask_seen_items(config, loaders)
        return loaders

    changes += [
        *((module, "data_preparation", data_preparation) for module in (quick_start, recbole.data, data_utils)),
        (data_utils, "get_dataloader", get_dataloader),
        (configurator.Config, "_update_internal_config_dict", _update_internal_config_dict),
    ]
    for spec in specs.values():
        base = registry.load_object(spec.trainer) if spec.trainer else Trainer
        changes.append((trainers, f"{spec.name}Trainer", trainer_class(base)))
        if spec.dataset:
            changes.append((datasets, f"{spec.name}Dataset", registry.load_object(spec.dataset)))
    _undo.append(patch.replace(*changes))
    _undo.append(repairs.flops_without_side_effects(quick_start))
    _undo.append(repairs.tune_of_any_ray(quick_start))


def _recbole(original: Callable[[str], Any], name: str) -> Any:
    found = original(name)
    repairs.repair_model(found)
    return found


def disable() -> None:
    """Take back what :func:`enable` did, repairs included."""
    while _undo:
        _undo.pop()()
    repairs.undo()
