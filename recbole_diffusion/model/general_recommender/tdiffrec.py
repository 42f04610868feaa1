"""T-DiffRec: DiffRec on rows that weight a user's items by their rank in time.

Reference:
    Wenjie Wang et al. "Diffusion Recommender Model." SIGIR 2023, section 3.5. https://doi.org/10.1145/3539618.3591663

Reference code:
    https://github.com/YiyanXu/DiffRec (commit d35a6c6), compared by numbers in tests/model/test_parity_ldiffrec.py
"""

from __future__ import annotations

from typing import Any

from recbole_diffusion.model.general_recommender.diffrec import DiffRec
from recbole_diffusion.model.rows.history import time_history


class TDiffRec(DiffRec):
    """DiffRec with ``row_weights: recency``, which weight the network's input and its target.

    The weights of a user's M items in time order are ``linspace(w_min, w_max, M)``.

    Keys: properties/model/TDiffRec.yaml.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset, time_history(dataset, config["w_min"], config["w_max"]))
