"""What the diffusion carries at inference: one trained DiffuRec or CDDRec, ranked in different ways.

    python benchmarks/chain.py CHECKPOINT [--data_path FOLDER] [--steps 8 2] [--users 5000]

A checkpoint of ``recbole-diffusion run``. Each row of the table is the test split ranked with the same weights.

DiffuRec: the official chain (all steps; with another seed; without the step's embedding), strided chains with and
without noise, a single pass, lambda 0 (nothing of the diffusion reaches the network), and the target itself handed in
as x_t, which tells how much the network could read of it. CDDRec: the prediction of step 0 (with noise), of the last
step, of no step, the encoder's states without the decoder, and the past not masked.

``overlap`` is the mean share of a user's top 10 that is also in the first row's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from time import process_time
from typing import Any

import torch
from torch import Tensor

from recbole_diffusion.quick_start import load
from recbole_diffusion.training.run_folder import environment

K = 10
METRICS = ("hit@1", "hit@5", "hit@10", "hit@20", "ndcg@10")


def rankings(model: Any, loader: Any, users: int) -> tuple[dict[str, float], Tensor]:
    """Hit and NDCG at 1, 5, 10, 20 over the loader's first ``users`` rows (by whole batches), and each row's top 10."""
    ranks: list[Tensor] = []
    tops: list[Tensor] = []
    for interaction, history, _, answers in loader:
        if users and sum(map(len, ranks)) >= users:
            break
        model.answers = answers
        scores = model.full_sort_predict(interaction)
        if history is not None:
            scores[history] = -torch.inf
        tops.append(scores.topk(K, dim=1)[1])
        ranks.append((scores > scores.gather(1, answers[:, None])).sum(dim=1))
    rank = torch.cat(ranks)
    metrics: dict[str, float] = {}
    for k in (1, 5, 10, 20):
        hit = rank < k
        metrics[f"hit@{k}"] = hit.double().mean().item()
        metrics[f"ndcg@{k}"] = (hit / (rank + 2).double().log2()).mean().item()
    return metrics, torch.cat(tops)


def of_cddrec(model: Any, loader: Any) -> Iterator[str]:
    """Change the model, name the change, change it back."""
    decoder, step_bias = model.decoder, model.decoder.step_bias
    yield "step 0"
    model.eval_noise = True
    yield "step 0, noise added"
    model.eval_noise = False
    decoder.step_bias = lambda: step_bias()[-1:]
    yield f"step {model.process.steps - 1}"
    decoder.step_bias = lambda: torch.zeros_like(step_bias())
    yield "no step told"
    decoder.step_bias = step_bias
    self_attention, forward = decoder.self_attention, decoder.forward
    decoder.forward = lambda states, step_bias: states
    decoder.self_attention = lambda states, is_item: states
    yield "the encoder's states, no decoder"
    decoder.self_attention, decoder.forward = self_attention, forward
    seen_items, loader.seen_items = loader.seen_items, None
    yield "step 0, the past not masked"
    loader.seen_items = seen_items


def of_diffurec(model: Any, steps: list[int]) -> Iterator[str]:
    """Change the model, name the change, change it back."""
    process, kept = model.process, (model.lambda_mean, model.lambda_std)
    full = process.ancestral_steps(process.steps, noise=True, large=True)
    model.reverse = full
    yield f"all {process.steps} steps"
    model.eval_seed += 1
    yield "the same, another seed"
    model.eval_seed -= 1
    embed = model.embed_step
    model.embed_step = lambda t: torch.zeros_like(embed(t))
    yield "the same, steps not told"
    model.embed_step = embed
    for count in steps:
        for eta in (1.0, 0.0):
            model.reverse = process.ddim_steps(count, eta)
            yield f"{count} steps, {'with' if eta else 'without'} noise"
    model.reverse = process.ddim_steps(1, 1.0)
    yield "1 step"
    approximate = model.approximate
    for share in (kept[0], 0.1):
        model.lambda_mean = model.lambda_std = share

        def handed(packed: Any, tokens: Tensor, x: Tensor, t: Tensor, spread: Tensor) -> Tensor:
            target = model.item_embedding(model.answers[packed.order])
            return approximate(packed, tokens, target, torch.zeros_like(t), spread)

        model.approximate = handed
        yield f"1 step, the target handed in, lambda {share}"
        model.approximate = approximate
        if share != kept[0]:
            yield f"1 step, lambda {share} at inference only"
    model.lambda_mean = model.lambda_std = 0.0
    yield "1 step, lambda 0: no diffusion"
    model.lambda_mean, model.lambda_std = kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data_path")
    parser.add_argument("--steps", type=int, nargs="*", default=[8, 2])
    parser.add_argument("--users", type=int, default=0, help="0: all")
    parser.add_argument("--threads", type=int, default=1)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    loaded = load(words.checkpoint, config_dict={"data_path": words.data_path} if words.data_path else None)
    first = None
    print(f"| ranking | {' | '.join(METRICS)} | overlap@{K} | CPU s |\n|---|---|---|---|---|---|---|---|")
    is_cddrec = loaded.config["model"] == "CDDRec"
    changes = of_cddrec(loaded.model, loaded.test_data) if is_cddrec else of_diffurec(loaded.model, words.steps)
    for name in changes:
        start = process_time()
        metrics, top = rankings(loaded.model, loaded.test_data, words.users)
        seconds = process_time() - start
        first = top if first is None else first
        overlap = (top[:, :, None] == first[:, None, :]).any(dim=2).float().mean().item()
        numbers = [f"{metrics[key]:.4f}" for key in METRICS]
        print(f"| {name} | {' | '.join(numbers)} | {overlap:.4f} | {seconds:.1f} |", flush=True)
    print("\nEnvironment: " + json.dumps({key: value for key, value in environment().items() if value is not None}))


if __name__ == "__main__":
    main()
