"""The models of this package, one :class:`ModelSpec` each.

A table and no code: the fingerprint of runs leaves its text out, so that a new entry does not make kept runs of the
other models stale.
"""

from __future__ import annotations

from recbole_diffusion.cards.model_spec import ModelSpec, Paper

_DIFFREC_PAPER = Paper("Diffusion Recommender Model", "SIGIR 2023", "https://doi.org/10.1145/3539618.3591663")
_DIFFREC_CODE = "https://github.com/YiyanXu/DiffRec @ d35a6c6"
_ROWS = ("new users", "full ranking", "fewer steps at inference")
_EMBEDDINGS = ("on top of any recommender with embeddings", "full ranking", "fewer steps at inference")
_SEQUENCES = ("new users", "full ranking", "order in time")
OURS = (
    ModelSpec(
        name="DiffRec",
        path="recbole_diffusion.model.general_recommender.diffrec:DiffRec",
        loader="user",
        diffusion=True,
        paper=_DIFFREC_PAPER,
        code=_DIFFREC_CODE,
        abilities=_ROWS,
    ),
    ModelSpec(
        name="LDiffRec",
        path="recbole_diffusion.model.general_recommender.ldiffrec:LDiffRec",
        loader="user",
        diffusion=True,
        paper=_DIFFREC_PAPER,
        code=_DIFFREC_CODE,
        abilities=(*_ROWS, "many items", "pretrains item embeddings for its clusters"),
    ),
    ModelSpec(
        name="TDiffRec",
        path="recbole_diffusion.model.general_recommender.tdiffrec:TDiffRec",
        loader="user",
        needs_time=True,
        diffusion=True,
        paper=_DIFFREC_PAPER,
        code=_DIFFREC_CODE,
        abilities=(*_ROWS, "order in time"),
    ),
    ModelSpec(
        name="LTDiffRec",
        path="recbole_diffusion.model.general_recommender.ltdiffrec:LTDiffRec",
        loader="user",
        needs_time=True,
        diffusion=True,
        paper=_DIFFREC_PAPER,
        code=_DIFFREC_CODE,
        abilities=(*_ROWS, "many items", "pretrains item embeddings for its clusters", "order in time"),
    ),
    ModelSpec(
        name="DDRM",
        path="recbole_diffusion.model.general_recommender.ddrm:DDRM",
        diffusion=True,
        paper=Paper("Denoising Diffusion Recommender Model", "SIGIR 2024", "https://doi.org/10.1145/3626772.3657825"),
        code="https://github.com/Polaris-JZ/DDRM @ ad4034c",
        abilities=_EMBEDDINGS,
    ),
    ModelSpec(
        name="HGCF",
        path="recbole_diffusion.model.general_recommender.hgcf:HGCF",
        paper=Paper(
            "HGCF: Hyperbolic Graph Convolution Networks for Collaborative Filtering",
            "WWW 2021",
            "https://doi.org/10.1145/3442381.3450101",
        ),
        code="https://github.com/yuanmeng-cpu/HDRM @ 782a194",
        abilities=("full ranking", "no diffusion: the base of HDRM", "hyperbolic"),
    ),
    ModelSpec(
        name="HDRM",
        path="recbole_diffusion.model.general_recommender.hdrm:HDRM",
        diffusion=True,
        paper=Paper("Hyperbolic Diffusion Recommender Model", "WWW 2025", "https://arxiv.org/abs/2504.01541"),
        code="https://github.com/yuanmeng-cpu/HDRM @ 9f90145",
        abilities=(*_EMBEDDINGS, "hyperbolic"),
    ),
    ModelSpec(
        name="DiffuRec",
        path="recbole_diffusion.model.sequential_recommender.diffurec:DiffuRec",
        task="sequential",
        diffusion=True,
        paper=Paper(
            "DiffuRec: A Diffusion Model for Sequential Recommendation", "TOIS 2023", "https://doi.org/10.1145/3631116"
        ),
        code="https://github.com/WHUIR/DiffuRec @ f6f70c9",
        abilities=(*_SEQUENCES, "fewer steps at inference"),
    ),
    ModelSpec(
        name="CDDRec",
        path="recbole_diffusion.model.sequential_recommender.cddrec:CDDRec",
        task="sequential",
        dataset="recbole_diffusion.data.sequences:UserSequenceDataset",
        diffusion=True,
        paper=Paper(
            "Conditional Denoising Diffusion for Sequential Recommendation",
            "PAKDD 2024",
            "https://arxiv.org/abs/2304.11433",
        ),
        code="https://github.com/YuWang-1024/CDDRec @ edfe0ff",
        abilities=(*_SEQUENCES, "one training row per user"),
    ),
)
