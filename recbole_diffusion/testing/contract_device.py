"""Contract tests of what a GPU would need, made without one."""

from __future__ import annotations

import itertools
import os
import traceback
from typing import Any

import pytest
import torch
from packaging.version import Version
from recbole.data.interaction import Interaction

from recbole_diffusion.diffusion.timestep import LossSecondMomentTimesteps
from recbole_diffusion.testing.building import build, contract_of, trainer_of
from recbole_diffusion.testing.model_case import ModelCase
from recbole_diffusion.testing.synchronisation import Synchronisations

#: Steps before the one that is watched: samplers of times that learn are filled by then.
WARM_UP = 12
LIBRARIES = ("torch", "recbole")


class DeviceTests(ModelCase):
    """A training step does not make the host wait for the device, except where the model's card says."""

    @pytest.mark.skipif(Version(torch.__version__).release < (1, 13), reason="TorchDispatchMode is made otherwise")
    def test_a_training_step_waits_for_the_device_only_where_the_card_says(self, keys: dict[str, Any]) -> None:
        """The card's ``contract.waits`` names functions, each with its reason."""
        built = build(self.model, keys)
        trainer = trainer_of(built.config, built.model)
        built.model.train()
        epochs = (batch for _ in range(WARM_UP + 1) for batch in built.loaders[0])
        batches = list(itertools.islice(epochs, WARM_UP + 1))  # an epoch of triples has many more
        for batch in batches[:-1]:
            _step(trainer, batch)
        with Synchronisations() as synchronisations:
            _step(trainer, batches[-1])
        allowed = contract_of(self.model).waits
        waits = {place.function: str(place) for place in synchronisations.places}
        unexplained = [place for function, place in waits.items() if function not in allowed]
        assert not unexplained, f"waits for the device that the card does not explain: {', '.join(unexplained)}"
        assert set(allowed) <= set(waits), (
            f"contract.waits names {', '.join(set(allowed) - set(waits))}, which waits not"
        )

    @pytest.mark.skipif(Version(torch.__version__).release < (2, 1), reason="few operators on the meta device")
    def test_a_training_step_elsewhere_needs_no_value_except_where_the_card_says(self, keys: dict[str, Any]) -> None:
        """On the meta device, whose tensors have shapes and no values, the step takes a GPU's path."""
        built = build(self.model, keys)
        batch = next(iter(built.loaders[0]))
        model, device = built.model.train().to("meta"), torch.device("meta")
        model.device = device
        for module in model.modules():
            if isinstance(module, LossSecondMomentTimesteps):
                module.assume_full()  # the first batches look whether it is
        try:
            losses = model.calculate_loss(Interaction({name: batch[name].to(device) for name in batch.columns}))
            loss: Any = sum(losses) if isinstance(losses, tuple) else losses
            loss.backward()
        except (NotImplementedError, RuntimeError) as error:
            if "unsupported scalarType" in str(error):
                pytest.skip("torch has no sparse product on the meta device")
            function = _own_function(error)
            if function not in contract_of(self.model).waits:
                raise AssertionError(f"{function} needs a value: {error}") from error
            return
        assert any(parameter.grad is not None for parameter in model.parameters())


def _own_function(error: BaseException) -> str:
    """The innermost function that is neither torch's nor RecBole's in an error's traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(f"{os.sep}{name}{os.sep}" in frame.filename for name in LIBRARIES)]
    return own[-1].name


def _step(trainer: Any, batch: Any) -> None:
    trainer.optimizer.zero_grad()
    losses = trainer.model.calculate_loss(batch)
    loss: Any = sum(losses) if isinstance(losses, tuple) else losses
    loss.backward()
    trainer.optimizer.step()
