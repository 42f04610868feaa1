"""LT-DiffRec: L-DiffRec on rows that weight a user's items by their rank in time.

Reference:
    Wenjie Wang et al. "Diffusion Recommender Model." SIGIR 2023, sections 3.4 and 3.5. https://doi.org/10.1145/3539618.3591663

Reference code:
    https://github.com/YiyanXu/DiffRec (commit d35a6c6), compared by numbers in tests/model/test_parity_ldiffrec.py
"""

from __future__ import annotations

from typing import Any, Optional

from torch import Tensor

from recbole_diffusion.model.general_recommender.ldiffrec import LDiffRec
from recbole_diffusion.model.rows.history import time_history


class LTDiffRec(LDiffRec):
    """L-DiffRec with ``row_weights: recency``, which weight the encoder's input and the decoder's target.

    The weights of a user's M items in time order are ``linspace(w_min, w_max, M)``.

    Keys: properties/model/LTDiffRec.yaml.

    Args:
        labels: the cluster of each item, (n_items - 1,); None: computed by k-means on pretrained embeddings.
    """

    def __init__(self, config: Any, dataset: Any, labels: Optional[Tensor] = None) -> None:
        super().__init__(config, dataset, labels, time_history(dataset, config["w_min"], config["w_max"]))
