"""Training steps as CUDA graphs, as far as a machine without a GPU can show it.

A recorded step does again what its kernels did, whatever the host meant. So a step may be recorded only if nothing of
it was decided on the host: a trace of its operators, played on another batch with other draws, must give what the step
itself gives. The rest, when steps are recorded and played, runs here with a recorder that calls the step again.
"""

from __future__ import annotations

import sys

import pytest
import torch
from packaging.version import Version
from recbole.data.interaction import Interaction
from torch.nn import functional

from recbole_diffusion import registry, run
from recbole_diffusion.model import hooks
from recbole_diffusion.model.embeddings import embedding_recommender
from recbole_diffusion.model.networks.dropout import dropout as fast_dropout
from recbole_diffusion.model.rows.history import InteractionMatrix
from recbole_diffusion.model.sequential_recommender import cddrec
from recbole_diffusion.testing.building import build, quick, trainer_of
from recbole_diffusion.training import cuda_graphs

PADDED = {model: {"sequence_layout": "padded", "n_layers": 2} for model in ("DiffuRec", "FMRec")}


@pytest.fixture(autouse=True)
def _masks(monkeypatch):
    """CDDRec selects positions as on a GPU."""
    monkeypatch.setattr(cddrec.CDDRec, "masks_positions", lambda self, device: True)


RECORDABLE = [
    "CDDRec",
    "DDRM",
    "DiffRec",
    "DiffuRec",
    "DreamRec",
    "FMRec",
    "FlowCF",
    "HDRM",
    "PreferDiff",
    "TDiffRec",
]


class Again:
    """A recorder whose graphs call the step again, with the batch that lies in their place."""

    def __init__(self):
        self.n_plain, self.n_recorded, self.n_played = 0, 0, 0

    def run(self, step, batch):
        self.n_plain += 1
        return step(batch)

    def record(self, step, columns):
        self.n_recorded += 1
        batch = {name: torch.zeros_like(column) for name, column in columns.items()}
        losses = []

        def play():
            self.n_played += 1
            values = step(Interaction(batch))
            losses.append(values) if not losses else losses[0].copy_(values)
            recorded.losses.copy_(losses[0])

        recorded = cuda_graphs.Recorded(play, batch, torch.zeros(self.n_losses, dtype=torch.float64))
        return recorded


def own_models():
    return [name for name, spec in registry.specs().items() if spec.card is not None]


def test_models_whose_steps_are_recorded(settings, shared_bases):
    """A model that is recorded from now on must be in the list that the next test traces."""
    found = []
    for model in own_models():
        net = build(model, {**settings, **quick(model), **PADDED.get(model, {}), "pretrain_dir": shared_bases}).model
        if hooks.of(net).step_is_capturable(32) is not None:
            found.append(model)
    assert sorted(found) == RECORDABLE


@pytest.mark.skipif(Version(torch.__version__).release < (2, 1), reason="make_fx of this torch lacks operators")
@pytest.mark.parametrize("model", RECORDABLE)
def test_nothing_of_a_step_is_decided_on_the_host(model, settings, shared_bases, monkeypatch):
    """Played on another batch, with other draws and weights, a trace gives the losses of the step itself."""
    from torch.fx.experimental.proxy_tensor import make_fx

    monkeypatch.setattr(embedding_recommender, "BLOCK", 10**6)
    rows = InteractionMatrix._rows_without_wait
    monkeypatch.setattr(InteractionMatrix, "rows", lambda self, users: rows(self, users, len(users) * self.longest))
    keys = {**settings, **quick(model), **PADDED.get(model, {}), "pretrain_dir": shared_bases}
    keys.update(train_batch_size=16, epochs=1)
    built = build(model, keys)
    for module in list(sys.modules.values()):  # torch's own dropout, as on a GPU
        if vars(module).get("dropout") is fast_dropout:  # getattr would import RecBole's lazy modules
            monkeypatch.setattr(module, "dropout", functional.dropout)
    trainer = trainer_of(built.config, built.model)
    trainer.fit(built.loaders[0], saved=False, verbose=False)
    net, (first, second) = built.model.train(), list(built.loaders[0])[:2]
    times = getattr(getattr(net, "diffusion", net), "timesteps", None)
    if hasattr(times, "assume_full"):
        times.losses.copy_(torch.rand_like(times.losses) + 1)
        times.count.fill_(times.history)
        times.assume_full()
    assert hooks.of(net).step_is_capturable(16) is True
    names, places = list(first.interaction), [buffer.data_ptr() for buffer in net.buffers()]

    @torch.no_grad()
    def step(*columns):
        losses = net.calculate_loss(Interaction(dict(zip(names, columns))))
        return torch.stack(losses) if isinstance(losses, tuple) else losses

    def losses_of(function, batch, seed):
        state = {name: value.clone() for name, value in net.state_dict().items()}
        torch.manual_seed(seed)
        values = function(*batch.interaction.values())
        net.load_state_dict(state)
        return values

    net.requires_grad_(False)  # the forward pass is traced; backward passes have no values of their own
    torch.manual_seed(1)
    trace = make_fx(step)(*first.interaction.values())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)
    expected = losses_of(step, second, seed=2)
    torch.testing.assert_close(losses_of(trace, second, seed=2), expected, rtol=1e-6, atol=0)
    assert not torch.allclose(losses_of(trace, second, seed=3), expected, rtol=1e-6, atol=0)  # it draws
    assert [buffer.data_ptr() for buffer in net.buffers()] == places


@pytest.mark.parametrize("schedule", [{}, {"lr_decay_step": 2}])
def test_played_steps_train_as_plain_ones(schedule, settings, monkeypatch):
    """Full and smaller batches, a falling learning rate; three plain steps of each shape, then played ones."""
    keys = {**settings, **quick("DiffRec"), "epochs": 5, "train_batch_size": 13, **schedule}
    keys = {**keys, "timestep_sampling": "uniform", "seed": 3}
    plain = run("DiffRec", "board", config_dict=keys, saved=False)
    recorder = Again()
    recorder.n_losses = 1
    monkeypatch.setattr(cuda_graphs, "_Recorder", lambda: recorder)
    monkeypatch.setattr(cuda_graphs, "reason_against", lambda trainer: None)
    played = run("DiffRec", "board", config_dict={**keys, "cuda_graphs": True}, saved=False)
    assert [row["train_loss"] for row in played["epochs"]] == [row["train_loss"] for row in plain["epochs"]]
    assert played["test_result"] == plain["test_result"]
    n_steps = recorder.n_plain + recorder.n_played
    assert recorder.n_played > 0
    assert n_steps % 5 == 0
    assert recorder.n_recorded == (2 if not schedule else recorder.n_recorded)


def test_recorded_steps_end_with_the_learning_rate(settings):
    """A graph holds the rate as a number: it is recorded anew when the schedule changes it."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    rates = []

    def step(batch):
        rates.append(optimizer.param_groups[0]["lr"])
        return batch["x"].double()

    recorder = Again()
    recorder.n_losses = 2
    steps = cuda_graphs.GraphedSteps(step, optimizer, recorder)
    batch = Interaction({"x": torch.tensor([1.0, 2.0])})
    for rate in (1.0, 0.5):
        optimizer.param_groups[0]["lr"] = rate
        for _ in range(5):
            assert torch.equal(steps(batch), torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert (recorder.n_plain, recorder.n_recorded) == (3, 2)
    assert rates == [1.0] * 5 + [0.5] * 5


@pytest.mark.parametrize(
    ("model", "keys", "reason"),
    [("DiffRec", {}, "the device is cpu"), ("BPR", {}, "the device is cpu")],
)
def test_without_an_effect_it_says_why(model, keys, reason, settings):
    result = run(model, "board", config_dict={**settings, **quick(model), **keys, "epochs": 1, "cuda_graphs": True})
    assert f"cuda_graphs has no effect: {reason}" in result["warnings"]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"enable_amp": True}, "enable_amp, enable_scaler or clip_grad_norm"),
        ({"clip_grad_norm": {"max_norm": 1.0}}, "enable_amp, enable_scaler or clip_grad_norm"),
        ({"learner": "sgd"}, "the optimizer is SGD"),
    ],
)
def test_reasons_on_a_gpu(keys, reason, settings, monkeypatch):
    built = build("DiffRec", {**settings, **quick("DiffRec"), **keys})
    trainer = trainer_of(built.config, built.model)
    monkeypatch.setattr(trainer, "device", torch.device("cuda"))
    assert reason in cuda_graphs.reason_against(trainer)


@pytest.mark.skipif(not hasattr(torch.autograd.graph, "increment_version"), reason="this torch has no graphs for us")
@pytest.mark.parametrize(("model", "needs_the_host"), [("DiffRec", False), ("LDiffRec", True), ("BPR", True)])
def test_who_is_recorded_on_a_gpu(model, needs_the_host, settings, monkeypatch):
    built = build(model, {**settings, **quick(model)})
    trainer = trainer_of(built.config, built.model)
    monkeypatch.setattr(trainer, "device", torch.device("cuda"))
    trainer.optimizer = torch.optim.AdamW(built.model.parameters(), fused=True)
    reason = cuda_graphs.reason_against(trainer)
    assert (reason is not None) == needs_the_host
    assert reason is None or "needs the host" in reason


def test_caches_learn_of_changes():
    linear = torch.nn.Linear(2, 2)
    before = [parameter._version for parameter in linear.parameters()]
    if hasattr(torch.autograd.graph, "increment_version"):
        cuda_graphs.mark_as_changed(linear)
        assert all(parameter._version > version for parameter, version in zip(linear.parameters(), before))
