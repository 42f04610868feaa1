"""Commands that are killed and started again until they are done, and what must hold then."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import failing_calls
import forked_commands as forked
import torch
import yaml
from forked_commands import DIFFREC, EVALUATION, SMALL

#: File in the working folder with a line for each epoch, run or trial that begins.
BEGUN = "begun"
#: File in the working folder that is there if a failing call has cost a trial of a tuning.
TRIAL_FAILED = "trial-failed"


class Story:
    """A command, killed and started again.

    Attributes:
        name: of the command.
        lost: most parts that a kill may cost: epochs of a run, runs of a comparison or tuning.
    """

    name = ""
    lost = 1

    def __init__(self, workers: Optional[int] = None) -> None:
        self.workers = workers
        self.lost = workers or 1  # as many are at work at once
        self.seconds_to_end = 120.0 if workers else 2.0  # of what a killed command started: Ray's agents try for long

    def words(self, folder: Path) -> Optional[Sequence[str]]:
        """The next command line; None when the work is done."""
        raise NotImplementedError

    def result(self, folder: Path) -> Any:
        """What must equal the undisturbed result, without times."""
        raise NotImplementedError

    def finished(self, folder: Path) -> dict[str, Any]:
        """The finished parts, which must never go."""
        return {path.name: path.read_bytes() for path in folder.glob(f"{self.name}/runs/*.json")}

    def before(self) -> None:
        """In the process of the command: note each part that begins."""
        note_runs()
        if self.workers:
            _note_runs_of_workers()

    def unexpected(self, folder: Path) -> list[str]:
        """Files that a finished command has no use for."""
        return [*forked.temporary_files(folder), *(f"lock {name}" for name in forked.held_locks(folder))]

    def of_former_choices(self, folder: Path) -> list[str]:
        """Runs that the undisturbed command does not make; see :class:`Tune`."""
        return []


def _note(file: Path, line: str) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def note_runs() -> None:
    """Note, from now on, each run of a comparison or tuning that begins in this process."""
    from recbole_diffusion import quick_start

    run = quick_start.run
    if getattr(run, "is_noted", False):  # a worker that runs several
        return

    def noted(*arguments: Any, **keywords: Any) -> Any:
        key = Path.cwd().name
        again = (Path.cwd().parents[1] / "runs" / f"{key}.json").exists()
        _note(Path.cwd().parents[2] / BEGUN, f"{key}{' again' if again else ''}")
        return run(*arguments, **keywords)

    noted.is_noted = True  # type: ignore[attr-defined]
    quick_start.run = noted  # type: ignore[assignment]


def _note_runs_of_workers() -> None:
    """Let the workers of Ray call :func:`noted_job` and :func:`noted_trial`, which they import from this file."""
    from recbole_diffusion.experiment.jobs.ray_executor import OnRay
    from recbole_diffusion.experiment.tune import on_ray

    submit = OnRay.map

    def noted(self: Any, function: Callable[[Any], Any], *arguments: Any, **keywords: Any) -> Any:
        return submit(self, functools.partial(noted_job, function), *arguments, **keywords)

    OnRay.map = noted  # type: ignore[method-assign]
    on_ray._trainable = noted_trial


def noted_job(function: Callable[[Any], Any], argument: Any) -> Any:
    """In a worker of ``compare``: note the run, and call the function."""
    note_runs()
    return function(argument)


def noted_trial(config: dict[str, Any], context: Any) -> None:
    """In a worker of ``tune``: note the run, and call the function that Tune would have called."""
    from recbole_diffusion.experiment.tune import on_ray

    note_runs()
    on_ray._trainable(config, context)


class Run(Story):
    """``run``, resumed from its most advanced checkpoint."""

    name = "run"

    def __init__(self, model: str = "DiffRec", more: Sequence[str] = DIFFREC) -> None:
        super().__init__()
        self.model, self.more = model, more

    def words(self, folder: Path) -> Optional[Sequence[str]]:
        if any(json.loads(file.read_text())["status"] == "finished" for file in self._manifests(folder)):
            return None
        checkpoints = {_epoch(file): file for file in sorted(folder.glob("outputs/*/checkpoint*.pth"))}
        if checkpoints:
            return ["run", f"--resume={checkpoints[max(checkpoints)]}"]
        return ["run", f"--model={self.model}", "--dataset=tiny", "--save_last_every=1", *SMALL, EVALUATION, *self.more]

    def _manifests(self, folder: Path) -> list[Path]:
        return sorted(folder.glob("outputs/*/manifest.json"))

    def result(self, folder: Path) -> Any:
        (done,) = [
            file.parent for file in self._manifests(folder) if json.loads(file.read_text())["status"] == "finished"
        ]
        weights = torch.load(done / "checkpoint.pth")["state_dict"]
        return {
            **forked.contents(done, "[me][ep][to]*s.json"),
            "weights": {name: value.tolist() for name, value in weights.items()},
        }

    def finished(self, folder: Path) -> dict[str, Any]:
        return {}

    def before(self) -> None:
        from recbole_diffusion.training.trainer import Training

        train, folder = Training._train_epoch, Path.cwd()

        def noted(self: Any, data: Any, epoch: int, *arguments: Any, **keywords: Any) -> Any:
            _note(folder / BEGUN, str(int(epoch)))
            return train(self, data, epoch, *arguments, **keywords)

        Training._train_epoch = noted  # type: ignore[method-assign]

    def unexpected(self, folder: Path) -> list[str]:
        runs = {path.name for path in folder.glob("outputs/*")}
        files = [path.name for path in folder.glob("saved/*") if path.name != "pretrain"]
        strangers = [name for name in files if name.replace("-last.pth", "").replace(".pth", "") not in runs]
        return [*super().unexpected(folder), *strangers]


class Compare(Story):
    """``compare``, resumed where it can be, else called again."""

    name = "compare"
    models = ("DiffRec", "EASE", "BPR")

    def words(self, folder: Path) -> Optional[Sequence[str]]:
        failed = list(folder.glob("compare/failed/*.json"))
        if (folder / "compare" / "report" / "index.html").exists() and (folder / "done").exists() and not failed:
            return None
        workers = [f"--workers={self.workers}"] if self.workers else []
        if (folder / "compare" / "comparison.json").exists():
            return ["compare", "--resume=compare", *workers]
        models = f"--models={','.join(self.models)}"
        return ["compare", models, "--dataset=tiny", "--seeds=2", "--folder=compare", *SMALL, EVALUATION, *workers]

    def result(self, folder: Path) -> Any:
        records = forked.contents(folder / "compare", "runs/*.json")
        tables = {name: (folder / "compare" / "report" / name).read_text() for name in ("significance.csv",)}
        results = (folder / "compare" / "report" / "results.json").read_text()
        return {**records, **tables, "results": forked.without_times(json.loads(results))}

    def unexpected(self, folder: Path) -> list[str]:
        expected = {".lock", "comparison.json", "lists", "report", "runs", "saved", "work", "failed"}
        names = {path.name for path in (folder / "compare").iterdir()} - expected
        inside = [*folder.glob("compare/work/*"), *folder.glob("compare/saved/*.pth")]
        return [*super().unexpected(folder), *sorted(names), *map(str, inside)]


class Tune(Story):
    """``tune``, resumed where it can be, else called again."""

    name = "tune"
    trials = 4

    def words(self, folder: Path) -> Optional[Sequence[str]]:
        failed = list(folder.glob("tune/failed/*.json"))
        if (folder / "tune" / "best.yaml").exists() and (folder / "done").exists() and not failed:
            return None
        backend = [f"--workers={self.workers}"] if self.workers else []
        backend.append("--executor=ray" if self.workers else "--executor=serial")
        if (folder / "tune" / "tune.json").exists():
            return ["tune", "--resume=tune", *backend]
        (folder / "space.yaml").write_text("learning_rate: {loguniform: [1.0e-3, 1.0e-1]}\n")
        words = ["tune", "--model=BPR", "--dataset=tiny", f"--trials={self.trials}", "--folder=tune"]
        return [*words, "--space=space.yaml", "--scheduler=none", *SMALL, EVALUATION, *backend]

    def result(self, folder: Path) -> Any:
        plan = forked.without_times(json.loads((folder / "tune" / "tune.json").read_text()))
        trials = [line.split(",")[:3] for line in (folder / "tune" / "trials.csv").read_text().splitlines()]
        runs = forked.contents(folder / "tune", "runs/*.json")
        for name in self.of_former_choices(folder):
            del runs[name]
        return {**runs, "plan": plan, "trials": trials}

    def of_former_choices(self, folder: Path) -> list[str]:
        """Tests of what was the best trial while a trial was missing for a failing call; it won when it was resumed."""
        if not (folder / TRIAL_FAILED).exists():
            return []
        chosen = yaml.safe_load((folder / "tune" / "best.yaml").read_text())["learning_rate"]
        runs = forked.contents(folder / "tune", "runs/*.json")
        tests = {name: run for name, run in runs.items() if run["trial"] is None}
        return [name for name, run in tests.items() if run["settings"]["learning_rate"] != chosen]

    def unexpected(self, folder: Path) -> list[str]:
        expected = {".lock", "tune.json", "trials.csv", "best.yaml", "best-full.yaml", "runs", "saved", "failed"}
        names = {path.name for path in (folder / "tune").iterdir()} - expected - {"trials.png", "trials.svg"}
        return [*super().unexpected(folder), *sorted(names), *map(str, folder.glob("tune/saved/*.pth"))]


def _epoch(file: Path) -> int:
    try:
        return int(torch.load(file)["epoch"])
    except FileNotFoundError:  # a link whose file is gone
        return -1


class Outcome(NamedTuple):
    """What a failing call led to.

    Attributes:
        call: name of the call that failed; empty if the command made fewer.
        line: the last line that the command printed.
        faults: what did not hold.
    """

    call: str
    line: str
    faults: list[str]


def fail(story: Story, folder: Path, reference: Any, n: int, error: str, lasting: bool) -> Outcome:
    """Let the n-th call of the command fail, then start it again until it is done."""
    failed, words = folder / "failed-call", story.words(folder)
    assert words is not None

    def before() -> Callable[[], None]:
        story.before()
        calls = failing_calls.Calls(n, error, lasting)
        stack = contextlib.ExitStack()
        stack.enter_context(failing_calls.failing(calls))

        def after() -> None:
            stack.close()
            failed.write_text(calls.failed)

        return after

    ended = forked.execute(words, folder, before=before)
    if ended.code == -9:
        call, faults = "kill", []
    else:
        call, faults = failed.read_text(), _said(ended)
    if not call and not faults:
        return Outcome("", "", [])
    (folder / "done").touch() if ended.code == 0 else None
    (folder / TRIAL_FAILED).touch() if list(folder.glob("tune/failed/*.json")) else None
    most = {**reference, "begun": reference["begun"] + story.lost}
    _, more = tell(story, folder, most, lambda _: {}, attempts=3, sessions={ended.session})
    return Outcome(call, ended.text.strip().rpartition("\n")[2], [*faults, *more])


def _said(ended: forked.Ended) -> list[str]:
    """What is wrong with the exit code and the last line of a command in which a call failed."""
    lines = ended.text.strip().splitlines() or [""]
    faults = [f"printed {word}" for word in ("Traceback", "Logging error") if word in ended.text]
    if ended.code not in (0, 1, 2):
        faults.append(f"ended with {ended.code}")
    if ended.code:  # of a comparison or tuning, the line of the run that failed says why
        lines = [
            line
            for line in lines
            if line.startswith("recbole-diffusion: ") or "failed" in line.lower() or "Note" in line
        ]
        if not lines:
            faults.append(f"no line of the error: {ended.text[-200:]!r}")
        elif not any(re.search(r"'[^']*/[^']*'|'[^']*\.\w+'|'outputs'|out of memory", line) for line in lines):
            faults.append(f"no line names a file: {lines}")
    return faults


class Faults(list):
    """What did not hold, in words."""


def tell(
    story: Story,
    folder: Path,
    reference: Any,
    strike: Callable[[int], dict[str, Any]],
    attempts: int = 60,
    sessions: AbstractSet[int] = frozenset(),
) -> tuple[int, Faults]:
    """Start the command until it is done.

    Args:
        story: the command.
        folder: its working folder.
        reference: of :func:`undisturbed`.
        strike: ``strike(attempt)`` gives the arguments of :func:`forked_commands.execute`.
        attempts: most starts.
        sessions: of commands that were started before.

    Returns:
        The number of kills, of the command or of a worker, and what did not hold.
    """
    faults, kills, kept, started = Faults(), 0, {}, set(sessions)
    for attempt in range(attempts):
        words = story.words(folder)
        if words is None:
            break
        options = strike(attempt)
        arm = options.pop("before", lambda: None)

        def before(arm: Callable[[], Any] = arm) -> None:
            story.before()
            arm()

        ended = forked.execute(words, folder, before=before, **options)
        started.add(ended.session)
        if ended.code == 0:
            (folder / "done").touch()
        elif ended.code == -9 or options.get("kill_worker"):
            kills += 1
        elif not list(folder.glob(f"{story.name}/failed/*.json")):
            faults.append(f"{' '.join(words[:2])} ended with {ended.code}: {ended.text[-300:]}")
            break
        now = story.finished(folder)
        faults += [f"finished {name} has gone or changed" for name in kept if now.get(name) != kept[name]]
        kept = now
    else:
        faults.append(f"not done after {attempts} attempts")
    faults += [f"process left: {name}" for name in forked.processes_left(started, folder, story.seconds_to_end)]
    if not faults:
        faults += _check(story, folder, reference, kills)
    return kills, faults


def _check(story: Story, folder: Path, reference: Any, kills: int) -> list[str]:
    faults = [f"left: {name}" for name in story.unexpected(folder)]
    begun = (folder / BEGUN).read_text().split("\n")[:-1]
    again = [line for line in begun if line.endswith("again")]
    faults += [f"finished, and begun {line}" for line in again]
    most = reference["begun"] + story.lost * kills + len(story.of_former_choices(folder))
    if len(begun) > most:
        faults.append(f"{len(begun)} parts were begun, {most} at most were to be with {kills} kills")
    result = story.result(folder)
    if result != reference["result"]:
        faults.append(f"the result differs: {first_difference(result, reference['result'])}")
    return faults


def first_difference(one: Any, two: Any, path: str = "") -> str:
    """The path of the first difference of two values, and both values there."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted({*one, *two}):
            if one.get(key) != two.get(key):
                return first_difference(one.get(key), two.get(key), f"{path}/{key}")
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return next(
            first_difference(*pair, f"{path}/{place}") for place, pair in enumerate(zip(one, two)) if pair[0] != pair[1]
        )
    return f"{path}: {str(one)[:200]} instead of {str(two)[:200]}"


def undisturbed(story: Story, folder: Path) -> dict[str, Any]:
    """The result of the command without a kill, the number of its parts, its seconds and its calls."""
    words = story.words(folder)
    assert words is not None
    ended = forked.execute(words, folder, before=story.before)
    assert ended.code == 0, ended.text
    (folder / "done").touch()
    begun = len((folder / BEGUN).read_text().splitlines())
    return {"result": story.result(folder), "begun": begun, "seconds": ended.seconds, "text": ended.text}
