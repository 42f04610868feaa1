"""Fingerprint of weights, by which cached results are invalidated."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def weights_fingerprint(weights: Iterable[Tensor]) -> tuple[object, ...]:
    """Fingerprint that changes if a tensor is replaced, moved in memory, or changed in place.

    It relies on torch's version counter of in-place changes. Fused optimisers do not increment it, so caches must also
    be dropped in ``train()``.
    """
    return tuple((id(weight), weight.data_ptr(), weight._version) for weight in weights)
