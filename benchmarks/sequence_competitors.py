"""Who is timed by ``sequences.py``: our sequential models, the official code's, and RecBole's SASRec.

The official models come from checkouts of https://github.com/WHUIR/DiffuRec (commit f6f70c9),
https://github.com/YuWang-1024/CDDRec (commit edfe0ff), https://github.com/FengLiu-1/FMRec (commit 1c39b17),
https://github.com/Nemo-1024/ADRec (commit 0a30ef7), https://github.com/YangZhengyi98/DreamRec (commit 454133c) and
https://github.com/lswhim/PreferDiff (commit fdf45b0), with their own optimisers and scoring, and are run as they are,
on the CPU. Packages that they import without need (timm, einops, torchtune) need not be installed. Their loaders are
not run: all competitors get the same batches, those of DiffuRec, CDDRec, FMRec and ADRec left-padded.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, NamedTuple, Optional
from unittest import mock

import numpy as np
import torch
from recbole.utils import init_seed

from recbole_diffusion import registry
from recbole_diffusion.data import pipeline
from recbole_diffusion.model.interventions import StoppedAfter
from recbole_diffusion.model.sequential_recommender.cddrec import left_padded
from recbole_diffusion.quick_start import configure
from recbole_diffusion.training.trainer import trainer_class

Keys = dict[str, Any]
Batches = Sequence[Any]
SEED = 1
COMMON: Keys = {"seed": SEED, "use_gpu": False, "state": "error", "show_progress": False}

#: Names of the competitors.
CODE, DEFAULT, SASREC = "official code", "ours", "RecBole's SASRec"
ANOMALY = "RecBole's SASRec, anomaly mode"  # as RecBole runs it: importing its SINE turns the mode on
OFFICIAL_GRID, STEP_BY_STEP = "ours, ddim_grid official", "ours, the chain step by step"
OFFICIAL_MASK, SAME_WORK, ONE_STEP = "ours, mask_mode official", "ours, the same work", "ours, 1 step at inference"


class Spec(NamedTuple):
    """How one of our models is compared; the rest are our defaults.

    ``files``: which of the checkout are imported; ``keys``: of all competitors; ``ours``: by name, our keys on top of
    those; ``ratios``: whose seconds are divided by whose; ``rankings``: evaluations that are timed for each step.
    """

    repository: str
    files: tuple[str, ...]
    keys: Keys
    ours: dict[str, Keys]
    ratios: tuple[tuple[str, str], ...]
    rankings: int


SPECS: dict[str, Spec] = {
    "DiffuRec": Spec(
        "WHUIR/DiffuRec at f6f70c9",
        ("src/model.py", "src/diffurec.py", "src/step_sample.py", "src/trainer.py"),
        {"MAX_ITEM_LIST_LENGTH": 50, "steps": 32},
        {OFFICIAL_MASK: {"mask_mode": "official"}, DEFAULT: {}, ONE_STEP: {"inference_steps": 1}},
        (
            (CODE, OFFICIAL_MASK),
            (CODE, DEFAULT),
            (CODE, ONE_STEP),
            (DEFAULT, SASREC),
            (DEFAULT, ANOMALY),
            (ONE_STEP, SASREC),
        ),
        rankings=1,
    ),
    "CDDRec": Spec(
        "YuWang-1024/CDDRec at edfe0ff",
        ("models.py", "modules.py", "trainers.py", "utils.py"),
        {"MAX_ITEM_LIST_LENGTH": 20, "steps": 30, "beta_end": 0.002},  # Beauty's
        {
            SAME_WORK: {
                "decoder_attention": "batch",
                "cross_view": "all",
                "aug_weight": "item_id",
                "eval_noise": True,
            },
            DEFAULT: {},
        },
        ((CODE, SAME_WORK), (CODE, DEFAULT)),
        rankings=10,  # milliseconds
    ),
    "FMRec": Spec(
        "FengLiu-1/FMRec at 1c39b17",
        ("src/model.py", "src/fmrec.py"),
        {"MAX_ITEM_LIST_LENGTH": 50, "steps": 30},
        {OFFICIAL_MASK: {"mask_mode": "official", "recon_weight": 0.4}, DEFAULT: {}, ONE_STEP: {"inference_steps": 1}},
        ((CODE, OFFICIAL_MASK), (CODE, DEFAULT), (CODE, ONE_STEP)),
        rankings=1,
    ),
    "ADRec": Spec(
        "Nemo-1024/ADRec at 0a30ef7",
        ("src/model.py", "src/adrec.py", "src/pcgrad.py"),
        {"MAX_ITEM_LIST_LENGTH": 50, "steps": 32, "pretrain": None, "warmup_epochs": 0},
        {OFFICIAL_MASK: {"mask_mode": "official"}, DEFAULT: {}, ONE_STEP: {"inference_steps": 1}},
        ((CODE, OFFICIAL_MASK), (CODE, DEFAULT), (CODE, ONE_STEP)),
        rankings=3,
    ),
    "DreamRec": Spec(
        "YangZhengyi98/DreamRec at 454133c",
        ("DreamRec.py", "Modules_ori.py", "utility.py"),
        {"MAX_ITEM_LIST_LENGTH": 10, "steps": 500, "guidance": 4.0},
        {DEFAULT: {}, STEP_BY_STEP: {}},
        ((CODE, DEFAULT), (CODE, STEP_BY_STEP)),
        rankings=1,
    ),
    "PreferDiff": Spec(
        "lswhim/PreferDiff at fdf45b0",
        ("main.py", "modules.py", "diffusion.py", "models/PreferDiff/_model.py"),
        {"MAX_ITEM_LIST_LENGTH": 10, "steps": 2000, "inference_steps": 21, "hidden_size": 512, "ddim_grid": "official"},
        {OFFICIAL_GRID: {}, STEP_BY_STEP: {}},
        ((CODE, OFFICIAL_GRID), (CODE, STEP_BY_STEP)),
        rankings=1,
    ),
}
#: Competitors that train, or rank, as another one does.
UNTRAINED, UNRANKED = {ONE_STEP, STEP_BY_STEP}, {ANOMALY}


class Prepared(NamedTuple):
    """What all competitors of one model share.

    ``config``: of our model; ``dataset``: its train split; ``batches``: to train on; ``users``: batches of the
    validation split.
    """

    config: Any
    dataset: Any
    batches: Batches
    users: Batches


class Competitor(NamedTuple):
    """``trainer`` has a ``model`` with RecBole's ``calculate_loss`` and ``full_sort_predict``, and an ``optimizer``."""

    name: str
    parameters: int
    trainer: Any
    batches: Batches
    users: Batches


def prepare(model: str, keys: Keys, batches: int, users: int, rankings: int = 1) -> Prepared:
    """The data set as our ``model`` splits and batches it; ``keys`` say where it lies and what is not by default."""
    config = configure(model, config_dict={**COMMON, "eval_users_per_batch": users, **SPECS[model].keys, **keys})
    init_seed(config["seed"], config["reproducibility"])
    train, valid, _ = pipeline.prepare(config, pipeline.create_dataset(config))
    first = list(itertools.islice(itertools.chain.from_iterable(itertools.repeat(train)), batches))
    return Prepared(config, train._dataset, first, [batch[0] for batch in itertools.islice(valid, rankings)])


def makers(model: str, keys: Keys, prepared: Prepared, checkout: Optional[Path]) -> dict[str, Callable[[], Competitor]]:
    """By name, what makes each competitor of ``model``; without a checkout the official code is left out."""
    spec = SPECS[model]
    found = {} if checkout is None else {CODE: partial(official, model, prepared, checkout)}
    for name, own in spec.ours.items():
        found[name] = partial(recbole, name, model, {**spec.keys, **keys, **own}, prepared)
    if model == "DiffuRec":
        for name in (SASREC, ANOMALY):
            found[name] = partial(recbole, name, "SASRec", {**_like(prepared.config), **keys}, prepared)
    return found


def _like(config: Any) -> Keys:
    """SASRec's keys for the size and dropout of a DiffuRec."""
    same = ("MAX_ITEM_LIST_LENGTH", "hidden_size", "n_layers", "n_heads", "hidden_dropout_prob", "train_batch_size")
    return {
        **{key: config[key] for key in same},
        "inner_size": 4 * config["hidden_size"],
        "attn_dropout_prob": config["hidden_dropout_prob"],
        "loss_type": "CE",
        "train_neg_sample_args": None,
    }


def recbole(name: str, model: str, keys: Keys, prepared: Prepared) -> Competitor:
    """A model of ours or RecBole's with the optimiser that our trainer gives it: for RecBole's models RecBole's."""
    config = configure(model, config_dict={**COMMON, **keys})
    init_seed(config["seed"], config["reproducibility"])
    net = config.model_class(config, prepared.dataset)
    if name == STEP_BY_STEP:
        net.solver = StoppedAfter(net.solver, torch.inf)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], model, model))(config, net)
    return _competitor(name, net, trainer, prepared.batches, prepared.users)


def _competitor(name: str, net: Any, trainer: Any, batches: Batches, users: Batches) -> Competitor:
    return Competitor(name, sum(each.numel() for each in net.parameters()), trainer, batches, users)


# -- the official code ---------------------------------------------------------------------------------------------


def lacking(model: str, checkout: Path) -> list[str]:
    """The files that a checkout should have and has not."""
    return [file for file in SPECS[model].files if not (checkout / file).is_file()]


def official(model: str, prepared: Prepared, checkout: Path) -> Competitor:
    """The official model and optimiser, at the settings of our model."""
    init_seed(SEED, True)
    with runnable(checkout / SPECS[model].files[0]):
        makers = {
            "DiffuRec": _diffurec,
            "CDDRec": _cddrec,
            "FMRec": _fmrec,
            "ADRec": _adrec,
            "DreamRec": _dreamrec,
            "PreferDiff": _preferdiff,
        }
        return makers[model](prepared)


@contextlib.contextmanager
def runnable(file: Path) -> Iterator[None]:
    """Import path; what numpy dropped; no GPU; nothing printed; both repositories have modules of the same names."""
    before = set(sys.modules)
    unneeded = {name: module for name, module in _unneeded().items() if name not in sys.modules}
    sys.modules.update(unneeded)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "path", [str(file.parent), *sys.path]))
        stack.enter_context(mock.patch.object(torch.cuda, "is_available", return_value=False))
        if "int" not in vars(np):
            stack.enter_context(mock.patch.object(np, "int", int, create=True))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        yield
    for name in unneeded:
        del sys.modules[name]
    for name in set(sys.modules) - before:
        source = getattr(sys.modules[name], "__file__", None)
        if source is not None and file.parent in Path(source).parents:
            del sys.modules[name]


def _unneeded() -> dict[str, Any]:
    """Stand-ins of packages from which the official modules import names that they do not use here."""
    names = {
        "timm.models.vision_transformer": ("PatchEmbed", "Attention", "Mlp"),
        "einops": ("rearrange", "pack", "unpack"),
        "torchtune.modules": ("RotaryPositionalEmbeddings",),
    }
    modules: dict[str, Any] = {}
    for name, imported in names.items():
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            modules.setdefault(".".join(parts[:end]), ModuleType(".".join(parts[:end])))
        vars(modules[name]).update(dict.fromkeys(imported, object))
    return modules


class _Official:
    """An official model in RecBole's words, for batches that are converted already."""

    def __init__(self, net: Any, loss: Callable[[Any], Any], scores: Callable[[Any], Any]) -> None:
        self.calculate_loss, self.full_sort_predict = loss, torch.no_grad()(scores)
        self.train, self.eval = net.train, net.eval


def _diffurec(prepared: Prepared) -> Competitor:
    import model as code  # type: ignore[import-not-found]
    import trainer as training  # type: ignore[import-not-found]

    config, dataset = prepared.config, prepared.dataset
    settings = SimpleNamespace(
        item_num=dataset.item_num - 1,
        max_len=config["MAX_ITEM_LIST_LENGTH"],
        hidden_size=config["hidden_size"],
        num_blocks=config["n_layers"],
        dropout=config["hidden_dropout_prob"],
        emb_dropout=config["emb_dropout_prob"],
        hidden_act="gelu",
        diffusion_steps=config["steps"],
        noise_schedule=config["noise_schedule"],
        schedule_sampler_name="lossaware",
        lambda_uncertainty=config["lambda_uncertainty"],
        rescale_timesteps=config["rescale_timesteps"],
        optimizer="Adam",
        lr=config["learning_rate"],
        weight_decay=0,
    )
    net = code.Att_Diffuse_model(code.create_model_diffu(settings), settings)

    def converted(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        sequences, lengths = batch[dataset.item_id_list_field], batch[dataset.item_list_length_field]
        return left_padded(sequences, lengths), batch[dataset.iid_field][:, None]

    def state(batch: Any, train: bool) -> torch.Tensor:
        return net(*batch, train_flag=train)[1]

    model = _Official(
        net,
        lambda batch: net.loss_diffu_ce(state(batch, True), batch[1]),
        lambda batch: net.diffu_rep_pre(state(batch, False)),
    )
    owner = SimpleNamespace(model=model, optimizer=training.optimizers(net, settings))
    return _competitor(CODE, net, owner, [*map(converted, prepared.batches)], [*map(converted, prepared.users)])


def _cddrec(prepared: Prepared) -> Competitor:
    import models as code  # type: ignore[import-not-found]
    import trainers as training  # type: ignore[import-not-found]

    config, dataset = prepared.config, prepared.dataset
    settings = SimpleNamespace(
        item_size=dataset.item_num + 1,
        max_seq_length=config["MAX_ITEM_LIST_LENGTH"],
        hidden_size=config["hidden_size"],
        num_hidden_layers=config["n_layers"],
        num_attention_heads=config["n_heads"],
        hidden_act=config["hidden_act"],
        attention_probs_dropout_prob=config["attn_dropout_prob"],
        hidden_dropout_prob=config["hidden_dropout_prob"],
        initializer_range=config["initializer_range"],
        T=config["steps"],
        beta_1=config["beta_start"],
        beta_T=config["beta_end"],
        temperature=config["temperature"],
        linear_infonce=config["infonce"] == "rff",
        lr=config["learning_rate"],
        adam_beta1=0.9,
        adam_beta2=0.999,
        weight_decay=0.0,
        no_cuda=True,
        cuda_condition=False,
    )
    net = code.CDDRecModel(settings)
    owner = training.CDDRecTrainer(net, None, None, None, settings)
    # The second views and negatives come from a model of ours: drawn before the clock runs, unlike our own.
    drawing = config.model_class(config, dataset)

    def loss(batch: Any) -> torch.Tensor:
        return net(batch.items, batch.target, batch.negative, batch.second_view, 0)[0]

    def scores(sequences: torch.Tensor) -> torch.Tensor:
        return owner.predict_full(net.inference(sequences)[:, -1])

    sequences, lengths = dataset.item_id_list_field, dataset.item_list_length_field
    users = [left_padded(batch[sequences], batch[lengths]) for batch in prepared.users]
    batches = [drawing.batch(each) for each in prepared.batches]
    adapted = SimpleNamespace(model=_Official(net, loss, scores), optimizer=owner.optim)
    return _competitor(CODE, net, adapted, batches, users)


def _fmrec(prepared: Prepared) -> Competitor:
    import model as code

    config, dataset = prepared.config, prepared.dataset
    settings = SimpleNamespace(
        item_num=dataset.item_num,
        max_len=config["MAX_ITEM_LIST_LENGTH"],
        hidden_size=config["hidden_size"],
        num_blocks=config["n_layers"],
        dropout=config["hidden_dropout_prob"],
        emb_dropout=config["emb_dropout_prob"],
        lambda_uncertainty=config["lambda_uncertainty"],
        eps=config["eps"],
        eps_reverse=config["eps"],
        sample_N=config["steps"],
        m_logNorm=config["logit_mean"],
        s_logNorm=config["logit_std"],
        s_modsamp=config["mode_scale"],
        sampling_method=config["timestep_sampling"],
        last=config["recon_last"],
        mask_ratio=config["recon_ratio"],
    )
    if not hasattr(torch, "pi"):  # older versions of torch
        torch.pi = np.pi  # type: ignore[attr-defined]
    net = code.Att_FM_model(code.create_model_FM(settings), settings)

    def converted(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        sequences, lengths = batch[dataset.item_id_list_field], batch[dataset.item_list_length_field]
        return left_padded(sequences, lengths), batch[dataset.iid_field][:, None]

    def loss(batch: Any) -> torch.Tensor:
        reconstruction, state, _, _, mse, _ = net(*batch, train_flag=True)
        return mse + config["ce_weight"] * net.loss_fm_ce(state, batch[1]) + 0.4 * reconstruction

    model = _Official(net, loss, lambda batch: net.fm_rep_pre(net(*batch, train_flag=False)[1]))
    owner = SimpleNamespace(model=model, optimizer=torch.optim.Adam(net.parameters(), lr=config["learning_rate"]))
    return _competitor(CODE, net, owner, [*map(converted, prepared.batches)], [*map(converted, prepared.users)])


class _Losses(NamedTuple):
    """ADRec's two losses, whose backward passes its wrapper of the optimiser runs."""

    losses: list[torch.Tensor]
    optimizer: Any

    def backward(self) -> None:
        self.optimizer.pc_backward(self.losses)


def _adrec(prepared: Prepared) -> Competitor:
    import model as code
    from pcgrad import PCGrad  # type: ignore[import-not-found]

    config, dataset = prepared.config, prepared.dataset
    settings = SimpleNamespace(
        item_num=dataset.item_num - 1,
        hidden_size=config["hidden_size"],
        dropout=config["hidden_dropout_prob"],
        emb_dropout=config["emb_dropout_prob"],
        lambda_uncertainty=config["lambda_uncertainty"],
        diffusion_steps=config["steps"],
        noise_schedule=config["noise_schedule"],
        rescale_timesteps=config["rescale_timesteps"],
        independent=config["independent"],
        schedule_sampler_name="uniform",
        dif_decoder="att",
        is_causal=True,
        cfg_scale=1.0,
        geodesic=False,
        model="adrec",
        pretrained=False,
        pcgrad=False,
    )
    net = code.Att_Diffuse_model(settings)
    adam = torch.optim.Adam(net.parameters(), lr=config["learning_rate"], weight_decay=config["weight_decay"])
    optimizer = PCGrad(adam, settings)

    def converted(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        sequences, lengths = batch[dataset.item_id_list_field], batch[dataset.item_list_length_field]
        following = torch.nn.functional.pad(sequences[:, 1:], (0, 1))
        following = following.scatter(1, lengths[:, None] - 1, batch[dataset.iid_field][:, None])
        return left_padded(sequences, lengths), left_padded(following, lengths)

    def loss(batch: Any) -> _Losses:
        state, _, mse = net(*batch, train_flag=True)
        return _Losses([net.calculate_loss(state, batch[1]), config["mse_weight"] * mse], optimizer)

    model = _Official(net, loss, lambda batch: net.calculate_score(net(*batch, train_flag=False)[1]))
    owner = SimpleNamespace(model=model, optimizer=optimizer)
    return _competitor(CODE, net, owner, [*map(converted, prepared.batches)], [*map(converted, prepared.users)])


def _dreamrec(prepared: Prepared) -> Competitor:
    config, dataset = prepared.config, prepared.dataset
    words = ["DreamRec.py", "--timesteps", str(config["steps"]), "--beta_sche", config["noise_schedule"]]
    with mock.patch.object(sys, "argv", words):  # it parses them when it is imported
        import DreamRec as code  # type: ignore[import-not-found]
    device = code.device = torch.device("cpu")
    size, length, items = config["hidden_size"], config["MAX_ITEM_LIST_LENGTH"], dataset.item_num - 1
    net = code.Tenc(size, items, length, config["dropout_prob"], "mlp1", device)
    process = code.diffusion(config["steps"], config["noise_min"], config["noise_max"], config["guidance"])

    def converted(batch: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Count items from 0; the padding item is the last."""
        sequences, lengths = batch[dataset.item_id_list_field], batch[dataset.item_list_length_field]
        return (sequences - 1) % (items + 1), lengths, batch[dataset.iid_field] - 1

    def loss(batch: Any) -> torch.Tensor:
        sequences, lengths, target = batch
        hidden = net.cacu_h(sequences, lengths, config["guidance_dropout"])
        t = torch.randint(0, config["steps"], (len(target),))
        return process.p_losses(net, net.cacu_x(target), hidden, t)[0]

    model = _Official(net, loss, lambda batch: net.predict(batch[0], batch[1].numpy(), process))
    adam = torch.optim.AdamW(net.parameters(), lr=config["learning_rate"], eps=1e-8, weight_decay=0)
    owner = SimpleNamespace(model=model, optimizer=adam)
    return _competitor(CODE, net, owner, [*map(converted, prepared.batches)], [*map(converted, prepared.users)])


def _preferdiff(prepared: Prepared) -> Competitor:
    from models.PreferDiff._model import PreferDiff  # type: ignore[import-not-found]

    config, dataset = prepared.config, prepared.dataset
    items = dataset.item_num - 1
    settings = {
        "hidden_size": config["hidden_size"],
        "layer_num": 1,
        "num_heads": config["n_heads"],
        "dropout": config["dropout_prob"],
        "w": config["guidance"],
        "timesteps": config["steps"],
        "beta_sche": config["noise_schedule"],
        "beta_start": config["noise_min"],
        "beta_end": config["noise_max"],
        "ddim_step": config["steps"] // (config["inference_steps"] - 1),
        "p": config["guidance_dropout"],
        "mode": "neg",
        "gamma": config["gamma"],
        "lamda": config["lamda"],
        "sample_func": "batch",
        "ab": "iids",
        "item_num": items,
        "max_seq_length": config["MAX_ITEM_LIST_LENGTH"],
        "device": "cpu",
        "loss_type": config["distance"],
    }
    net = PreferDiff(settings)

    def converted(batch: Any) -> dict[str, torch.Tensor]:
        sequences, lengths = batch[dataset.item_id_list_field], batch[dataset.item_list_length_field]
        return {"item_seqs": sequences, "seq_lengths": lengths, "labels": batch[dataset.iid_field]}

    def scores(batch: Any) -> torch.Tensor:
        states: torch.Tensor = net.diff.sample(net, net.get_representation(batch))
        return states @ net.get_all_embeddings().T

    model = _Official(net, lambda batch: net(batch)["loss"], scores)
    owner = SimpleNamespace(
        model=model, optimizer=torch.optim.AdamW(net.parameters(), lr=config["learning_rate"], weight_decay=0.0)
    )
    return _competitor(CODE, net, owner, [*map(converted, prepared.batches)], [*map(converted, prepared.users)])
