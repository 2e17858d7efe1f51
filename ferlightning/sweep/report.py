"""What a search has found: a table, trials.csv, pictures, and the command that repeats the best trial."""

import os
import shlex
import warnings
from typing import Any

from optuna.trial import TrialState

from ferlightning.files import replacing
from ferlightning.sweep.search import Search

STATES = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "running"}


def report(search: Search) -> None:
    """Print the trials and the best one; write ``trials.csv``, ``trials.png`` and ``parameters.png``."""
    trials = table(search)
    print(f"{len(trials)} of {search.total} trials")
    print(trials.to_string(index=False, na_rep=""))
    complete = search.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    with search.lock:  # several processes may end at the same time
        with replacing(search.out / "trials.csv") as temporary:
            trials.to_csv(temporary, index=False)
        if complete:
            _draw(search)
    print(f"Written: trials.csv{', trials.png, parameters.png' if complete else ''} in {search.out}")
    if complete:
        best = search.study.best_trial
        words = search.sweep.words(best.params)
        words = words[1:] if words[0] == "/usr/bin/env" else words
        words = words if "WANDB_MODE" in os.environ else ["env", "WANDB_MODE=offline", *words]  # needs no account
        print(f"Best: trial {best.number}, in {search.folder(best.number)}. To repeat it:\n  {shlex.join(words)}")


def table(search: Search) -> Any:
    """Tabulate the trials.

    Returns:
        A data frame, a row a trial: number, state, best value so far, epochs, duration and the parameters.
    """
    study, metric = search.study, search.sweep.metric
    found = study.trials_dataframe(attrs=("number", "state", "duration", "params"))
    epochs = study.trials_dataframe(attrs=("number", "intermediate_values")).drop(columns="number")
    best = epochs.max(axis=1) if metric.goal == "maximize" else epochs.min(axis=1)
    found["state"] = found["state"].map(STATES)
    new = {metric.name: best, "epochs": epochs.count(axis=1)}
    new["seconds"] = found.pop("duration").dt.total_seconds().round(1)
    found.columns = found.columns.str.removeprefix("params_")
    found = found.rename(columns={"number": "trial"})
    for name, kind in search.sweep.space.items():
        if None in getattr(kind, "choices", ()) and name in found:  # a value like any other
            found[name] = found[name].astype(object).fillna("None")
    for place, (name, column) in enumerate(new.items(), 2):
        found.insert(place, name, column)
    return found[found["trial"].isin([trial.number for trial in search.trials()])]


def _draw(search: Search) -> None:
    """Write Optuna's pictures of the value by trial, and by each parameter that varies."""
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as optuna_pyplot

    metric = search.sweep.metric.name
    varied = [name for name, kind in search.sweep.space.items() if not kind.single()]
    # Optuna sets a style for good, and matplotlib warns of an axis with one value.
    with pyplot.rc_context(), warnings.catch_warnings(action="ignore"):
        for name in ("trials", "parameters"):
            if name == "trials":
                optuna_pyplot.plot_optimization_history(search.study, target_name=metric)
            else:
                optuna_pyplot.plot_slice(search.study, varied, target_name=metric)
            with replacing(search.out / f"{name}.png") as temporary:
                pyplot.savefig(temporary, format="png", bbox_inches="tight")
            pyplot.close()
