"""FMRec: what its keys do, and the reconstruction term against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_diffusion.diffusion import AffineSolver, IdentityProcess, LawTimes, MeanSolver, OdeSolver
from recbole_diffusion.model.process import make_parts, other_solver, process_of, solver_family
from recbole_diffusion.model.process_settings import ProcessSettings
from recbole_diffusion.model.sequences.history_decoder import HistoryDecoder
from recbole_diffusion.model.sequences.packing import pack

PROCESS = {
    "steps": 30,
    "eps": 0.001,
    "timestep_sampling": "mode",
    "mode_scale": 1.0,
    "logit_mean": 1.0,
    "logit_std": 0.6,
    "rescale_timesteps": True,
    "velocity": "start",
    "inference_steps": None,
    "lambda_uncertainty": 0.001,
    "lambda_std": None,
}
QUICK = {"hidden_size": 8, "n_heads": 2, "n_layers": 3, "MAX_ITEM_LIST_LENGTH": 4, "steps": 4}


def test_the_process_is_the_official_one_with_1_minus_its_time():
    process, solver, times, noised = process_of(PROCESS, "FMRec")
    assert isinstance(solver, MeanSolver)
    assert isinstance(times, LawTimes)
    official = [k / 30 * 0.999 + 0.001 for k in range(30)]
    np.testing.assert_allclose([1 - t for t in solver.times], official, rtol=0, atol=1e-12)
    assert (solver.nfe, noised, times.end) == (30, 0, 0.999)
    assert process.time_scale == pytest.approx(999)
    assert process_of({**PROCESS, "rescale_timesteps": False}, "FMRec").process.time_scale == 1
    assert process_of({**PROCESS, "inference_steps": 3}, "FMRec").solver.times == [
        pytest.approx(t) for t in (0.999, 0.666, 0.333)
    ]
    with pytest.raises(ValueError, match="inference_steps=31 is more than steps=30"):
        process_of({**PROCESS, "inference_steps": 31}, "FMRec")


def test_the_usual_velocity_and_the_other_solvers_cover_the_whole_path():
    process, solver, *_ = process_of({**PROCESS, "velocity": "state", "inference_steps": 2}, "FMRec")
    assert isinstance(solver, AffineSolver)
    assert [step.t for step in solver.steps] == pytest.approx([0.999, 0.4995])
    assert solver_family(process).own == "euler"
    heun = other_solver(process, "heun", 2)
    assert isinstance(heun, OdeSolver)
    assert heun.grid == pytest.approx([0.999, 0.4995, 0.0])
    mean = other_solver(process_of(PROCESS, "FMRec").process, None, 1)
    assert isinstance(mean, MeanSolver)
    assert mean.times == [0.999]


def test_without_lambda_there_is_no_flow_and_one_call():
    process, solver, *_ = process_of({**PROCESS, "lambda_uncertainty": 0.0}, "FMRec")
    assert isinstance(process, IdentityProcess)
    assert solver.nfe == 1
    assert process_of({**PROCESS, "lambda_uncertainty": 0.0, "lambda_std": 0.1}, "FMRec").solver.nfe == 30


def test_other_flows_do_not_have_the_mean_and_an_unknown_law_is_named():
    with pytest.raises(ValueError, match="timestep_sampling='late' is not allowed; allowed: mode"):
        make_parts(ProcessSettings(4, "flow", solver="euler", from_source=True, timestep_sampling="late"))
    family = solver_family(make_parts(ProcessSettings(4, "flow", solver="euler")).process)
    assert set(family.make) == {"euler", "midpoint", "heun"}


def rows_and_decoder():
    torch.manual_seed(0)
    sequences = torch.tensor([[3, 5, 3, 0], [1, 0, 0, 0], [6, 2, 4, 1]])
    return pack(sequences, torch.tensor([3, 1, 4])), HistoryDecoder(5, 8, widths=(4, 3))


@pytest.mark.parametrize("keep", [False, True], ids=["packed", "padded"])
def test_the_chosen_zeros_are_those_of_numpys_nonzero(keep):
    packed, decoder = rows_and_decoder()
    packed = pack(torch.tensor([[3, 5, 3, 0], [1, 0, 0, 0], [6, 2, 4, 1]]), torch.tensor([3, 1, 4]), keep)
    rows = np.zeros((3, 8))
    for row, items in enumerate([[3, 5], [1], [6, 2, 4, 1]]):
        rows[row, items] = 1
    rows = rows[packed.order.numpy()].ravel()
    zeros, numbers = np.flatnonzero(rows == 0), torch.arange(24 - 7)
    cells = decoder.cells(packed, 1.0, numbers)
    assert cells.ones.tolist() == np.flatnonzero(rows).tolist()
    assert cells.zeros.tolist() == zeros.tolist()
    drawn = decoder.cells(packed, 2.0)
    assert len(drawn.zeros) == 14
    assert set(drawn.zeros.tolist()) <= {*zeros}
    assert len(decoder.cells(packed, 9.0).zeros) == 17  # no more than there are


def test_the_error_of_the_reconstruction_is_that_of_numpy():
    """The official formula: both sides are 0 outside of the chosen entries, each of which counts once."""
    packed, decoder = rows_and_decoder()
    states = torch.randn(3, 5)
    cells = decoder.cells(packed, 1.0, torch.tensor([0, 4, 4, 16]))
    decoded = decoder(states).detach().numpy().ravel()
    target, mask = np.zeros(24), np.zeros(24)
    target[cells.ones], mask[cells.ones], mask[cells.zeros] = 1, 1, 1
    squares = ((decoded - target) * mask) ** 2
    assert float(decoder.loss(states, cells, True).detach()) == pytest.approx(squares.mean(), rel=1e-6)
    assert float(decoder.loss(states, cells, False).detach()) == pytest.approx(squares.sum() / 10, rel=1e-6)


def first(built, **keys):
    _, net, _, loaders = built("FMRec", **{**QUICK, **keys})
    return net, next(iter(loaders[0])), loaders[2]._dataset.inter_feat[:6]


def test_the_weights_of_the_losses(built):
    still = {"emb_dropout_prob": 0.0, "hidden_dropout_prob": 0.0, "lambda_uncertainty": 0.0}
    net, batch, _ = first(built, **still)
    packed = net._pack(*net.sequences(batch))
    target = batch["item_id"][packed.order]
    x0, table = (
        net.approximator(net.tokens(packed), packed).detach().numpy(),
        net.item_embedding.weight.detach().numpy(),
    )
    logits = x0 @ table.T
    mse = ((x0 - table[target]) ** 2).mean()
    cross_entropy = (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(target)), target]).mean()
    assert float(net.calculate_loss(batch).detach()) == pytest.approx(mse + 0.2 * cross_entropy, rel=1e-5)
    net.mse_weight, net.ce_weight = 0.5, 2.0
    assert float(net.calculate_loss(batch).detach()) == pytest.approx(0.5 * mse + 2 * cross_entropy, rel=1e-5)


def test_the_reconstruction_has_parameters_only_where_it_counts(built):
    net, batch, _ = first(built)
    assert net.history_decoder is None
    net, batch, _ = first(built, recon_weight=0.4)
    net.calculate_loss(batch).backward()
    assert all(float(layer.weight.grad.abs().sum()) > 0 for layer in net.history_decoder.layers)
    with pytest.raises(ValueError, match="recon_last=3 is not allowed with n_layers=3; allowed: 1 to 2"):
        first(built, recon_weight=0.4, recon_last=3)


def test_what_the_keys_of_inference_do(built):
    """Each changes the states by more than rounding, at a lambda that lets the network see."""
    results = []
    for keys in ({}, {"velocity": "state"}, {"inference_steps": 1}, {"eval_seed": 5}, {"lambda_std": 0.1}):
        torch.manual_seed(0)
        net, _, rows = first(built, **{"lambda_uncertainty": 0.5, **keys})
        results.append(net.eval().states(*net.sequences(rows)).detach())
    for number, one in enumerate(results):
        assert all(float((one - two).abs().max()) > 1e-5 for two in results[number + 1 :])


def test_biases_of_the_feed_forward_layers_begin_at_zero(built):
    net, *_ = first(built)
    assert all(not block.widen.bias.any() and not block.narrow.bias.any() for block in net.approximator.blocks)
    assert float(net.item_embedding.weight.detach().std()) == pytest.approx(1, abs=0.2)
