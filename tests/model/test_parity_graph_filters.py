"""Numbers of the official code of BSPM, GF-CF, SGFCF and Turbo-CF, frozen in tests/frozen/graph_filters_official.npz.

Commits c5cdcfa (BSPM), 0f56771 (GF-CF), 118ca84 (SGFCF) and 233f7f4 (Turbo-CF), on one matrix of 30 users and 24 items.
The file holds inputs and outputs only; docs/models/graph_filters.md says how it was made.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA
from filter_models import filter_model

from recbole_diffusion.model.general_recommender.bspm import BSPM
from recbole_diffusion.model.general_recommender.gfcf import GFCF
from recbole_diffusion.model.general_recommender.sgfcf import SGFCF
from recbole_diffusion.model.general_recommender.turbocf import TurboCF
from recbole_diffusion.model.rows.history import SparseRows

FROZEN = np.load(FROZEN_DATA / "graph_filters_official.npz")
X = FROZEN["X"].astype(np.float64)
ROWS = SparseRows.of(torch.tensor(X, dtype=torch.float32))
GRAPHS = pytest.mark.parametrize("item_graph", ["dense", "sparse"])


def scores_of(model_class, item_graph, settings):
    return filter_model(model_class, X, item_graph=item_graph, **settings).denoise(ROWS).numpy()


BSPM_CASES = {
    "gowalla": {"sharpening_time": 2.5, "ideal_weight": 0.2},
    "yelp": {"solver": "euler", "sharpening_time": 1.2, "average_states": True},
    "amazon": {"sharpening_steps": 2, "sharpening_time": 2.2, "merge": "late", "ideal_weight": 0.0},
    "late": {"sharpening_steps": 2, "sharpening_time": 1.4, "merge": "late", "ideal_weight": 0.4},
    "late_mean": {
        "solver": "euler",
        "sharpening_steps": 3,
        "sharpening_time": 1.5,
        "merge": "late",
        "average_states": True,
    },
    "off": {"sharpening_time": 0.0},
    "times": {
        "solver": "euler",
        "blurring_steps": 3,
        "blurring_time": 1.5,
        "ideal_steps": 2,
        "ideal_time": 0.8,
        "sharpening_steps": 2,
        "sharpening_time": 1.1,
        "average_states": True,
    },
}


@GRAPHS
@pytest.mark.parametrize("case", BSPM_CASES)
def test_bspm(case, item_graph):
    settings = {"ideal_weight": 0.3, "ideal_cutoff": 6, **BSPM_CASES[case]}
    np.testing.assert_allclose(scores_of(BSPM, item_graph, settings), FROZEN[f"bspm/{case}"], rtol=1e-5, atol=1e-6)


@GRAPHS
@pytest.mark.parametrize(("case", "weight"), [("official", 0.3), ("amazon", 0.0)])
def test_gfcf(case, weight, item_graph):
    settings = {"ideal_weight": weight, "ideal_cutoff": 6}
    np.testing.assert_allclose(scores_of(GFCF, item_graph, settings), FROZEN[f"gfcf/{case}"], rtol=1e-5, atol=1e-6)


SGFCF_CASES = {
    "plain": {"ideal_cutoff": 8, "beta": 1.0, "alpha": 0.0, "eps": 0.5, "gamma": 1.0},
    "sharp": {"ideal_cutoff": 5, "beta": 1.3, "alpha": 0.0, "eps": 0.34, "gamma": 1.6},
    "damped": {"ideal_cutoff": 6, "beta": 2.0, "alpha": 5.3, "eps": 0.5, "gamma": 0.025},
}


@GRAPHS
@pytest.mark.parametrize("case", SGFCF_CASES)
def test_sgfcf(case, item_graph):
    settings = {**SGFCF_CASES[case], "row_sum": "signed"}
    np.testing.assert_allclose(scores_of(SGFCF, item_graph, settings), FROZEN[f"sgfcf/{case}"], rtol=1e-4, atol=1e-5)


TURBO_CASES = {
    "linear": {"alpha": 0.5, "power": 1.0, "filter": "linear"},
    "second": {"alpha": 0.3, "power": 0.7, "filter": "second"},
    "ideal": {"alpha": 0.6, "power": 1.4, "filter": "ideal"},
}


@GRAPHS
@pytest.mark.parametrize("case", TURBO_CASES)
def test_turbocf(case, item_graph):
    """The official scores of a user's own items are lost in its mask."""
    settings = TURBO_CASES[case]
    unseen = X == 0
    scores = scores_of(TurboCF, item_graph, settings)
    np.testing.assert_allclose(scores[unseen], FROZEN[f"turbo/{case}"][unseen], rtol=1e-5, atol=1e-6)
    gram = filter_model(TurboCF, X, item_graph=item_graph, **settings).gram.matrix().toarray()
    np.testing.assert_allclose(gram, FROZEN[f"turbo/{case}/P"], rtol=1e-5, atol=1e-7)
