"""Make RecBole's own, unmodified entry points use our models. Opt-in by :func:`enable`, undone by :func:`disable`.

After :func:`enable`, ``recbole.quick_start.run_recbole(model="DiffRec")``, ``load_data_and_model`` and RecBole's
hyper-tuning objective use our models. RecBole's own rules stay in force there: its order of time, its reading of
``sys.argv``, and for its own models its evaluation batches. Our runner (:func:`recbole_diffusion.run`) needs none of
this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

from recbole_diffusion import registry
from recbole_diffusion.compat import repairs
from recbole_diffusion.support import patch, trusted_files, yaml_files

#: Object, name of an attribute, new value.
Replacement = tuple[Any, str, Any]
#: Functions that undo :func:`enable`, the last one first.
_undo: list[Callable[[], None]] = []


def enable(trust: bool = False) -> None:
    """Make RecBole's entry points use our models, and repair RecBole for current library versions.

    Call it before ``from recbole.quick_start import …``: without the repairs that import fails where the import of ray
    fails. A second call changes ``trust`` only.

    Args:
        trust: let RecBole unpickle checkpoint files that this process has not written. They can run code.
    """
    repairs.apply()
    trusted_files.trust_all(trust)
    if _undo:
        return
    _undo.append(patch.replace(*_model_lookup(), *_loaders(), *_default_settings(), *_trainers_and_datasets()))
    quick_start = repairs.quick_start_module()
    _undo.append(repairs.flops_without_side_effects(quick_start))
    _undo.append(repairs.tune_of_any_ray(quick_start))


def disable() -> None:
    """Undo :func:`enable`, its repairs included."""
    while _undo:
        _undo.pop()()
    repairs.undo()


def _model_lookup() -> list[Replacement]:
    """``get_model`` finds our models by name, and repairs RecBole's."""
    import recbole.config.configurator as configurator
    import recbole.utils
    import recbole.utils.utils as utils

    original = utils.get_model

    def get_model(name: str) -> Any:
        spec = registry.find_spec(name)
        if spec is not None:
            return registry.load_object(spec.path)
        model_class = original(name)
        repairs.repair_model(model_class)
        return model_class

    modules = (utils, recbole.utils, configurator, repairs.quick_start_module())
    return [(module, "get_model", get_model) for module in modules]


def _loaders() -> list[Replacement]:
    """Our loaders for our models; base model, provenance and the mask of seen items after RecBole's preparation."""
    import recbole.data
    import recbole.data.utils as data_utils

    from recbole_diffusion.data import pipeline, provenance, sequences
    from recbole_diffusion.pretraining import bases

    quick_start = repairs.quick_start_module()
    original_loader, original_preparation = data_utils.get_dataloader, quick_start.data_preparation

    def get_dataloader(config: Any, phase: str) -> Any:
        is_ours = registry.find_spec(config["model"]) is not None
        return pipeline.get_dataloader(config, phase) if is_ours else original_loader(config, phase)

    def data_preparation(config: Any, dataset: Any) -> Any:
        loaders = original_preparation(config, dataset)
        if registry.find_spec(config["model"]) is not None:
            bases.attach(config, loaders)
            provenance.describe(dataset, loaders)
            sequences.check_lengths(config, loaders)
            sequences.mask_seen_items(config, loaders)
        return loaders

    modules = (quick_start, recbole.data, data_utils)
    return [
        *((module, "data_preparation", data_preparation) for module in modules),
        (data_utils, "get_dataloader", get_dataloader),
    ]


def _default_settings() -> list[Replacement]:
    """RecBole's Config reads the yaml files of our models."""
    import recbole.config.configurator as configurator

    from recbole_diffusion.settings.config import Config

    original = configurator.Config._update_internal_config_dict

    def _update_internal_config_dict(self: Any, file: str) -> Any:
        path, spec = Path(file), registry.find_spec(self.model)
        if spec is None or isinstance(self, Config):  # RecBole's model; or our runner, which reads the files itself
            return original(self, file)
        if path.parent.name == "model":
            return {}
        settings = original(self, file)
        if path.name == "overall.yaml":
            self.internal_config_dict.update(yaml_files.load_yaml(yaml_files.properties() / "overall.yaml"))
        if path.name == "overall.yaml" or path.parent.name == "dataset":
            self.internal_config_dict.update(yaml_files.load_yaml(spec.defaults))
        return settings

    return [(configurator.Config, "_update_internal_config_dict", _update_internal_config_dict)]


def _trainers_and_datasets() -> list[Replacement]:
    """RecBole finds ``<Model>Trainer`` and ``<Model>Dataset`` of our models by name."""
    import recbole.data.dataset as datasets
    import recbole.trainer as trainers
    from recbole.trainer import Trainer

    from recbole_diffusion.training.trainer import trainer_class

    replacements: list[Replacement] = []
    for spec in registry.specs().values():
        base_class = registry.load_object(spec.trainer) if spec.trainer else Trainer
        replacements.append((trainers, f"{spec.name}Trainer", trainer_class(base_class)))
        if spec.dataset:
            replacements.append((datasets, f"{spec.name}Dataset", registry.load_object(spec.dataset)))
    return replacements
