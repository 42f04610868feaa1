"""Base class of DreamRec and PreferDiff: generate the next item's embedding, guided by the sequence."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import GaussianDiffusion, SharedGenerator, StepCallback, draw, sample
from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.networks.guided_denoiser import GuidedChain, GuidedDenoiser
from recbole_diffusion.model.networks.item_cross_entropy import item_cross_entropy
from recbole_diffusion.model.process import process_of
from recbole_diffusion.model.sequences.generative_recommender import GenerativeSequenceRecommender
from recbole_diffusion.model.sequences.last_item_attention import LastItemAttention


class GuidedNoise(NamedTuple):
    """Draws of a training batch.

    ``t``: steps (B,). ``noise``: of :math:`x_t`, (B, d). ``keep``: whether a row keeps its condition, bool (B,).
    """

    t: Tensor
    noise: Tensor
    keep: Tensor


class GuidedRecommender(GenerativeSequenceRecommender):
    r"""Base class. A subclass implements ``calculate_loss`` and sets ``residual``.

    The condition h is the encoder's output at the last item. Training noises the embedding of the next item and
    estimates it from the noised one, the condition and the step. Ranking runs the reverse chain from noise with
    classifier-free guidance, in closed form where the denoiser is linear, and scores the items against its result.

    Attributes:
        residual: whether the encoder has outer residual connections.
    """

    residual = False

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, self.dropout_prob = config["hidden_size"], config["dropout_prob"]
        self.guidance, self.guidance_dropout = config["guidance"], config["guidance_dropout"]
        self.rounding, self.eval_noise = config["rounding"], config["eval_noise"]
        self.detach_target, self.ce_weight = config["detach_target"], config["ce_weight"]
        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)  # from N(0, 1), the padding row 0
        self.item_embedding.weight.requires_grad_(not config["freeze_items"])
        self.place_embedding = nn.Embedding(self.max_seq_length, size)
        self.unconditional = nn.Parameter(torch.randn(1, size))
        self.encoder = LastItemAttention(size, config["n_heads"], self.dropout_prob, self.residual)
        self.denoiser = GuidedDenoiser(size, config["denoiser"])
        self.use_state = config["use_state"]
        if not self.use_state:
            self.denoiser.ignore_state()
        process, self.solver, self.timesteps, self.sampling_steps = process_of(config, "guided")
        assert isinstance(process, GaussianDiffusion)  # the translation of these keys makes no other process
        self.process = process

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per user and ranking. An ``mlp`` makes two for the guidance."""
        calls = self.solver.nfe
        twice = not self.denoiser.is_linear and self.guidance != 0
        return calls if calls is None else calls * (2 if twice else 1)

    @property
    def draws_noise(self) -> bool:
        """Whether the scores depend on noise that is drawn at inference: the start, and that of the steps."""
        return bool(self.eval_noise)

    def networks(self) -> list[nn.Module]:
        """Return the encoder, for ``compile``."""
        return [self.encoder]

    def step_is_capturable(self, batch_size: int) -> Optional[bool]:
        """Return True: a step reads its batch and the parameters, and draws on the device; see :class:`Hooks`."""
        return True

    def encode(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        """Encode right-padded sequences (B, L) with lengths (B,) to the conditions (B, d)."""
        tokens = self.item_embedding(sequences) + self.place_embedding.weight[: sequences.shape[1]]
        tokens = dropout(tokens, self.dropout_prob, self.training) * (sequences > 0).unsqueeze(-1)
        encoded: Tensor = self.encoder(tokens, lengths)
        return encoded

    def draw(self, rows: int) -> GuidedNoise:
        """Draw steps, noise and dropped conditions for a batch."""
        table = self.item_embedding.weight
        keep = torch.rand(rows, device=table.device) > self.guidance_dropout
        noise = table.new_empty(rows, table.shape[1]).normal_()
        return GuidedNoise(self.timesteps.sample(rows).t, noise, keep)

    def target_embedding(self, target: Tensor) -> Tensor:
        """Embed the target items (B,), (B, d); with ``detach_target`` without a gradient."""
        embedding: Tensor = self.item_embedding(target)
        return embedding.detach() if self.detach_target else embedding

    def context(self, sequences: Tensor, lengths: Tensor, draws: GuidedNoise) -> Tensor:
        """Compute the denoiser's terms beside x_t's for a training batch, (B, width); see :class:`GuidedDenoiser`."""
        condition = self.encode(sequences, lengths)
        condition = torch.where(draws.keep[:, None], condition, self.unconditional.to(condition.dtype))
        return self.denoiser.context(condition, draws.t)

    def estimate(self, x0: Tensor, context: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noise ``x0`` (B, d) to the steps ``t`` (B,) and estimate it again, (B, d), in full precision."""
        x_t = self.process.q_sample(x0, t, noise)
        estimate: Tensor = self.denoiser.finish(self.denoiser.state(x_t) + context)
        return estimate.to(x0.dtype)

    def add_cross_entropy(self, loss: Tensor, estimate: Tensor, target: Tensor) -> Tensor:
        """Add ``ce_weight`` times the cross-entropy of the estimates (B, d) over all items; scalar."""
        if not self.ce_weight:
            return loss
        return loss + self.ce_weight * item_cross_entropy(estimate, self.item_embedding.weight, target)

    def denoise(
        self,
        sequences: Tensor,
        lengths: Tensor,
        generator: Optional[torch.Generator] = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Run the reverse chain with guidance; with a callback, the steps are taken one after another."""
        generator = generator or self.generator()
        condition = self.encode(sequences, lengths).to(self.item_embedding.weight.dtype)
        start = condition.new_zeros(1, condition.shape[1])
        if self.eval_noise:
            start = draw(start.shape, condition, generator)
        denoiser = GuidedChain(self.denoiser, condition, self.unconditional, self.guidance)
        return sample(denoiser, start.expand_as(condition), self.solver, SharedGenerator(generator), callback)

    def target_state(self, interaction: Any, items: Tensor) -> Optional[Tensor]:
        """Return the embeddings of the first of the given items, (B, d); see :class:`Hooks`. None without state."""
        if not self.use_state:
            return None
        embedding: Tensor = self.item_embedding(items[:, 0])
        return embedding

    def score(self, states: Tensor) -> Tensor:
        """Score all items by ``rounding``, (B, n_items): inner product, cosine, or minus the squared distance."""
        items = self.item_embedding.weight
        if self.rounding == "cosine":
            return F.normalize(states, dim=1) @ F.normalize(items, dim=1).T
        scores = states @ items.T
        if self.rounding == "l2":
            scores = 2 * scores - items.square().sum(dim=1) - states.square().sum(dim=1, keepdim=True)
        return scores
