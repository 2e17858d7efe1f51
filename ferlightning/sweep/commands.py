"""``ferl sweep``: run a search on this machine."""

import shlex
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from ferlightning.errors import FerlError

if TYPE_CHECKING:
    from ferlightning.sweep.file import Metric


def sweep(file: str, out: str | None = None, trials: int | None = None, workers: int = 1) -> None:
    """Search for hyper-parameters as a sweep file of Weights & Biases says, without an account.

    Started again, the search goes on; with all trials done it only reports. Started a second time at the same time on
    the same folder, it joins in, for example with another GPU: ``CUDA_VISIBLE_DEVICES=1 ferl sweep FILE``.

    Args:
        file: YAML in W&B's format.
        out: folder on a local disk for the trials, the storage and the results; default runs/sweeps/<name of the file>.
        trials: number of trials of the whole search; default the file's run_cap, or the whole grid.
        workers: trials to run at a time.
    """
    try:  # late, because they take a second to import
        import optuna  # noqa: F401
        import pandas  # noqa: F401
    except ModuleNotFoundError as error:
        raise FerlError(f"a search needs {error.name}: pip install 'ferlightning[sweep]'") from None
    from ferlightning.sweep.file import read
    from ferlightning.sweep.report import report
    from ferlightning.sweep.search import OUTPUT, Search

    if workers < 1:
        raise FerlError(f"--workers is {workers}, expected at least 1")
    wanted = read(Path(file))
    _check_goal(wanted.metric, file)
    program = next((word for word in wanted.words({}) if word != "/usr/bin/env" and "=" not in word), "")
    if which(program) is None:
        raise FerlError(
            f"{file}: command: there is no program {program!r} to run; ours is ferl, whose command is "
            "['${program}', fit, '${args}'] with program: ferl"
        )
    folder = Path(out or Path("runs", "sweeps", Path(file).stem))
    search = Search(wanted, folder, wanted.total(trials))
    if signum := search.run(workers):
        words = ["ferl", "sweep", str(file), f"--out={folder}"]
        words += [f"--trials={trials}"] if trials is not None else []
        words += [f"--workers={workers}"] if workers > 1 else []
        print(f"Stopped. To go on: {shlex.join(words)}", flush=True)
        raise SystemExit(128 + signum)
    report(search)
    outputs = [trial.user_attrs.get(OUTPUT) for trial in search.trials()]
    if all(outputs):
        raise FerlError(
            f"all {len(outputs)} trials failed. The last one said:\n{outputs[-1]}\nDelete {folder} to try again"
        )


def _check_goal(metric: "Metric", file: str) -> None:
    """Refuse to search for the worst value of a metric of ours; W&B minimises what has no goal."""
    from ferlightning.evaluation.metrics import classification_metrics
    from ferlightning.models.optim import better

    known = {"val/loss", "train/loss", "train/accuracy", *(f"val/{name}" for name in classification_metrics(2))}
    goal = {"min": "minimize", "max": "maximize"}[better(metric.name)]
    if metric.name in known and metric.goal != goal:
        raise FerlError(
            f"{file}: metric.goal is {metric.goal}, which is the worst of {metric.name}: write goal: {goal}"
        )
