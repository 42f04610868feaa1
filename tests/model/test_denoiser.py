"""RowMLP: the folded chain is the plain chain; shapes, initial law."""

from __future__ import annotations

import pytest
import torch

from recbole_diffusion.diffusion import GaussianDiffusion, make_betas, sample
from recbole_diffusion.diffusion.gaussian import PREDICTIONS, Step
from recbole_diffusion.model.networks.denoiser import ACTIVATIONS, RowMLP, timestep_embedding


def network(**options):
    torch.manual_seed(0)
    net = RowMLP([30, 9, 4, 9, 30], time_size=6, **options).double().eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return net


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", ["all", "last three", "one", "ddim"])
def test_folded_chain_is_the_plain_chain(prediction, kind):
    d = GaussianDiffusion(make_betas("linear", 11, noise_min=0.01, noise_max=0.2), prediction)
    steps = {
        "all": d.ancestral_steps(11),
        "last three": d.ancestral_steps(3),
        "one": d.ancestral_steps(1),
        "ddim": d.ddim_steps(4),
    }[kind]
    net, x = network(), torch.rand(7, 30, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net.chain(x, steps), sample(net, x, steps), rtol=1e-10, atol=1e-10)


def test_folded_chain_without_a_process_iterates_the_network():
    net, x = network(), torch.rand(7, 30, dtype=torch.float64)
    steps = [Step(t, 0.0, 1.0, 0.0) for t in (2, 1, 0)]
    with torch.no_grad():
        torch.testing.assert_close(net.chain(x, steps), sample(net, x, steps), rtol=1e-10, atol=1e-10)


def test_folding_follows_the_weights():
    net, x = network(), torch.rand(3, 30, dtype=torch.float64)
    steps = [Step(1, 0.3, 0.7, 0.0), Step(0, 0.0, 1.0, 0.0)]
    with torch.no_grad():
        net.chain(x, steps)
        net.input.weight.mul_(2.0)
        torch.testing.assert_close(net.chain(x, steps), sample(net, x, steps))
        net.load_state_dict({key: value + 0.1 for key, value in net.state_dict().items()})
        torch.testing.assert_close(net.chain(x, steps), sample(net, x, steps))


@pytest.mark.parametrize("fused", [False, True])
def test_folding_follows_training(fused):
    """A fused optimiser changes weights behind the back of the tensors' version counters."""
    net, x = network().float(), torch.rand(3, 30)
    steps = [Step(1, 0.3, 0.7, 0.0), Step(0, 0.0, 1.0, 0.0)]
    if fused and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 4):
        pytest.skip("this torch has no fused Adam on the CPU")
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, **({"fused": True} if fused else {}))
    for _ in range(3):
        with torch.no_grad():
            torch.testing.assert_close(net.eval().chain(x, steps), sample(net, x, steps), rtol=1e-4, atol=1e-4)
        net.train()(x, torch.tensor([1, 0, 1])).square().sum().backward()
        optimizer.step()


def test_folded_chain_refuses_what_it_cannot_do():
    x = torch.rand(3, 30, dtype=torch.float64)
    with pytest.raises(ValueError, match="deterministic"):
        network().chain(x, [Step(0, 0.0, 1.0, 0.5)])
    with pytest.raises(ValueError, match="normalised"):
        network(normalize=True).chain(x, [Step(0, 0.0, 1.0, 0.0)])


def test_the_other_layers_are_xavier_normal():
    torch.manual_seed(0)
    net = RowMLP([400, 900, 300, 2000], time_size=50)
    for layer in (*net.hidden, net.output, net.time):
        weight, fans = layer.weight.detach(), layer.in_features + layer.out_features
        assert float(weight.std()) == pytest.approx((2 / fans) ** 0.5, rel=0.05)
        assert float(weight.abs().max()) > 2.5 * float(weight.std())  # a uniform law ends at 1.7


def test_input_and_time_together_are_one_xavier_layer():
    torch.manual_seed(0)
    net = RowMLP([3000, 500, 3000], time_size=10)
    expected = (2 / (3010 + 500)) ** 0.5
    assert float(net.input.weight.detach().std()) == pytest.approx(expected, rel=0.01)
    assert float(net.time_input.weight.detach().std()) == pytest.approx(expected, rel=0.03)
    assert float(net.output.bias.detach().std()) == pytest.approx(0.001, rel=0.1)


def test_dropout_is_on_the_row_only_and_only_in_training():
    net = network(dropout=0.5)
    zero, t = torch.zeros(4, 30, dtype=torch.float64), torch.arange(4)
    with torch.no_grad():
        still = net(zero, t)
        net.train()
        torch.testing.assert_close(net(zero, t), still)
        x = torch.ones(4, 30, dtype=torch.float64)
        assert not torch.equal(net(x, t), net(x, t))


@pytest.mark.parametrize("size", [2, 5, 10])
def test_timestep_embedding(size):
    out = timestep_embedding(torch.tensor([0, 3]), size)
    assert out.shape == (2, size)
    assert out[0, : size // 2].tolist() == [1.0] * (size // 2)
    assert out[0, size // 2 :].abs().sum() == 0
    assert float(out[1, 0]) == pytest.approx(float(torch.cos(torch.tensor(3.0))))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_keeps_the_shape(name):
    net = RowMLP([5, 3, 5], time_size=2, activation=name)
    assert net(torch.rand(2, 5), torch.tensor([0, 1])).shape == (2, 5)


@pytest.mark.parametrize(("device", "blocks"), [("cpu", 4), ("meta", 1)])
def test_the_conditional_chain_runs_in_blocks_on_the_cpu_only(device, blocks):
    """A GPU would launch the same small kernels once per block; the meta device stands for it."""
    from recbole_diffusion.model.networks.conditional_mlp import BLOCK, ConditionalMLP
    from recbole_diffusion.testing.synchronisation import Synchronisations

    net = ConditionalMLP(4, 4, [8]).eval().to(device)
    steps, counts = [Step(t, 0.5, 0.5, 0.0) for t in (1, 0)], []
    for rows in (1, 4 * BLOCK):
        x = torch.zeros(rows, 4, device=device)
        with Synchronisations() as seen:
            net.chain(x, steps, x)
        counts.append(seen.operators["tanh"])
    assert counts == [len(steps), blocks * len(steps)]
