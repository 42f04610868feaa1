"""Contract tests of what a GPU would need, made without one."""

from __future__ import annotations

from typing import Any

from recbole_diffusion.testing.building import build, contract_of, trainer_of
from recbole_diffusion.testing.model_case import ModelCase
from recbole_diffusion.testing.synchronisation import Synchronisations

#: Steps before the one that is watched: samplers of times that learn are filled by then.
WARM_UP = 40


class DeviceTests(ModelCase):
    """A training step does not make the host wait for the device, except where the model's card says."""

    def test_a_training_step_waits_for_the_device_only_where_the_card_says(self, keys: dict[str, Any]) -> None:
        """The card's ``contract.waits`` names functions, each with its reason."""
        built = build(self.model, keys)
        trainer = trainer_of(built.config, built.model)
        built.model.train()
        batches = [batch for epoch in range(WARM_UP) for batch in built.loaders[0]][: WARM_UP + 1]
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


def _step(trainer: Any, batch: Any) -> None:
    trainer.optimizer.zero_grad()
    losses = trainer.model.calculate_loss(batch)
    loss: Any = sum(losses) if isinstance(losses, tuple) else losses
    loss.backward()
    trainer.optimizer.step()
