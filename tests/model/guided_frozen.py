"""The official parameters of DreamRec and PreferDiff as ours, for the parity tests: one model, two sets of names."""

from __future__ import annotations

from typing import Any

import torch
from sequential_fields import SEQUENTIAL_FIELDS

#: The official names of the encoder's parameters, and ours; the bias of the keys has no effect.
ENCODER = {
    "ln_1": "attention_norm",
    "ln_2": "feed_norm",
    "ln_3": "output_norm",
    "feed_forward.layer_norm": "inner_norm",
    "mh_attn.linear_q": "query",
    "mh_attn.linear_k": "key",
    "mh_attn.linear_v": "value",
    "feed_forward.w_1": "widen",
    "feed_forward.w_2": "narrow",
}
SETTINGS: dict[str, Any] = {
    **SEQUENTIAL_FIELDS,
    "MAX_ITEM_LIST_LENGTH": 10,
    "n_heads": 1,
    "dropout_prob": 0.0,
    "guidance": 4.0,
    "guidance_dropout": 0.1,
    "noise_schedule": "linear",
    "noise_min": 1e-4,
    "noise_max": 0.02,
    "steps": 50,
    "inference_steps": None,
    "eval_noise": True,
    "rounding": "dot",
    "denoiser": "linear",
    "detach_target": False,
    "freeze_items": False,
    "use_state": True,
    "ce_weight": 0.0,
    "compile": False,
}
#: Equal to 1e-9 of the largest value, at least of 1.
TOLERANCE = 1e-9


def near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to :data:`TOLERANCE`, in float64."""
    assert actual.dtype == torch.float64
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual, expected.double(), rtol=TOLERANCE, atol=TOLERANCE * scale)


def renamed(official: dict[str, torch.Tensor], layer: str, step: str, denoiser: str) -> dict[str, torch.Tensor]:
    """Rename official parameters.

    Args:
        official: by official name; the padding item's row is the last one for an empty ``layer``, else the first one.
        layer: prefix of the encoder's names.
        step: prefix of the step network's names.
        denoiser: prefix of the denoiser's names.
    """
    items = official["item_embeddings.weight"].double()
    if not layer:
        items = torch.cat([items[-1:], items[:-1]])
    items[0] = 0
    state = {
        "item_embedding.weight": items,
        "place_embedding.weight": official["positional_embeddings.weight"].double(),
    }
    state["unconditional"] = official["none_embedding.weight"].double()
    for theirs, ours in ENCODER.items():
        for kind in ("weight", "bias"):
            if (ours, kind) != ("key", "bias"):
                parameter = official[f"{layer}{theirs}.{kind}"].double()
                state[f"encoder.{ours}.{kind}"] = parameter.squeeze(-1) if parameter.dim() == 3 else parameter
    for theirs_at, ours_at in ((1, 0), (3, 2)):
        for kind in ("weight", "bias"):
            state[f"denoiser.step_mlp.{ours_at}.{kind}"] = official[f"{step}.{theirs_at}.{kind}"].double()
    x, h, t = official[f"{denoiser}.0.weight"].double().chunk(3, dim=1)
    state |= {"denoiser.state.weight": x, "denoiser.condition.weight": h, "denoiser.step.weight": t}
    state["denoiser.step.bias"] = official[f"{denoiser}.0.bias"].double()
    if f"{denoiser}.2.weight" in official:
        for kind in ("weight", "bias"):
            state[f"denoiser.output.{kind}"] = official[f"{denoiser}.2.{kind}"].double()
    return state
