"""Our training epoch beside RecBole's: the same sums, weights and refusals."""

from __future__ import annotations

import pytest
import torch
from recbole.trainer import Trainer
from recbole.utils import init_seed

from recbole_diffusion import registry
from recbole_diffusion.training import epoch_loop
from recbole_diffusion.training.trainer import trainer_class

QUICK = {
    "DiffRec": {"steps": 3, "dims": [16]},
    "LDiffRec": {"steps": 3, "in_dims": [8], "mlp_dims": [8], "n_cate": 1},
    "BPR": {},
}


def trained(built, model, train_epoch, **settings):
    """Two epochs by ``train_epoch``: the losses that it returned, and the weights."""
    config, net, _, loaders = built(model, **QUICK[model], **settings)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], model, model))(config, net)
    init_seed(7, True)
    losses = [train_epoch(trainer, loaders[0], epoch) for epoch in range(2)]
    return losses, [value.clone() for value in net.state_dict().values()]


@pytest.mark.parametrize("look_every", [1, 2])
@pytest.mark.parametrize("model", QUICK)
def test_losses_and_weights_are_those_of_recboles_epoch(model, look_every, built, monkeypatch):
    """Bit for bit; also where the losses are looked at now and then, as on a GPU."""
    monkeypatch.setattr(epoch_loop, "_look_every", lambda device: look_every)
    clip = {"clip_grad_norm": {"max_norm": 0.5}}
    expected = trained(built, model, lambda trainer, *args: Trainer._train_epoch(trainer, *args), **clip)
    found = trained(built, model, lambda trainer, *args: trainer._train_epoch(*args), **clip)
    assert found[0] == expected[0]
    assert all(torch.equal(one, other) for one, other in zip(found[1], expected[1]))


@pytest.mark.parametrize("look_every", [1, 3, 10**6])
def test_nan_is_refused(look_every, built, monkeypatch):
    """The loss of one batch is nan, the next ones are finite."""
    monkeypatch.setattr(epoch_loop, "_look_every", lambda device: look_every)
    config, net, _, loaders = built("BPR")
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], "BPR", "BPR"))(config, net)
    plain, calls = net.calculate_loss, []

    def once_nan(batch):
        calls.append(1)
        return plain(batch) * (float("nan") if len(calls) == 2 else 1.0)

    monkeypatch.setattr(net, "calculate_loss", once_nan)
    with pytest.raises(ValueError, match="Training loss is nan"):
        trainer._train_epoch(loaders[0], 0)
    assert len(calls) == {1: 2, 3: 3}.get(look_every, len(loaders[0]))


def test_a_trainers_own_epoch_is_kept(built):
    class OwnEpoch(Trainer):
        def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
            return 42.0

    config, net, _, loaders = built("BPR")
    assert trainer_class(OwnEpoch)(config, net)._train_epoch(loaders[0], 0) == 42.0


def test_an_epoch_without_batches_has_no_loss(built):
    config, net, *_ = built("BPR")
    trainer = trainer_class(Trainer)(config, net)

    class Empty(list):
        shuffle = False

    assert epoch_loop.train(trainer, Empty(), 0, None, False) is None
