"""A sweep file in W&B's format: what it searches, in Optuna's terms, and the words of each of its runs."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from ferlightning.errors import FerlError
from ferlightning.sweep.space import check_keys, distribution, is_integer, refuse, values

METHODS = ("grid", "random", "bayes")
SEARCH_KEYS = ("method", "metric", "parameters", "early_terminate", "program", "command")
"""What makes two searches the same one."""
OTHER_KEYS = ("run_cap", "name", "description", "project", "entity")
DEFAULT_COMMAND = ["${env}", "${interpreter}", "${program}", "${args}"]
ENVIRONMENT = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


@dataclass(frozen=True)
class Sweep:
    """A search.

    Attributes:
        path: the file.
        search: those keys of the file that define the search.
        run_cap: most trials; None if the file does not say.
        space: by name the values of each parameter. Categorical ones are JSON: a storage of Optuna keeps no lists.
    """

    path: Path
    search: dict[str, Any]
    run_cap: int | None
    space: dict[str, BaseDistribution]

    @property
    def method(self) -> str:
        """One of ``METHODS``."""
        method: str = self.search["method"]
        return method

    @property
    def metric(self) -> str:
        """Column of ``metrics.csv``."""
        name: str = self.search["metric"]["name"]
        return name

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """Either ``minimize`` or ``maximize``; as in W&B the first if the file does not say."""
        return cast(Literal["minimize", "maximize"], self.search["metric"].get("goal", "minimize"))

    def total(self, trials: int | None) -> int:
        """The number of trials of the whole search.

        Args:
            trials: what the user wants; None for what the file says.

        Raises:
            FerlError: neither says, and it is no grid, which ends by itself.
        """
        wanted = self.run_cap if trials is None else trials
        if wanted is not None and wanted < 1:
            raise FerlError(f"--trials is {wanted}: a search needs at least 1")
        if self.method == "grid":
            points = len(self.points())
            return points if wanted is None else min(wanted, points)
        if wanted is None:
            raise FerlError(f"{self.path}: a search by {self.method} has no end; give run_cap in it, or --trials=N")
        return wanted

    def points(self) -> list[dict[str, Any]]:
        """All combinations of a grid, the parameters by name, the last one varying fastest."""
        return [dict(zip(self.space, point, strict=True)) for point in product(*map(values, self.space.values()))]

    def decode(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Values as the file writes them, by name, of values as Optuna keeps them."""
        return {
            name: json.loads(parameters[name]) if isinstance(kind, CategoricalDistribution) else parameters[name]
            for name, kind in self.space.items()
            if name in parameters
        }

    def words(self, parameters: Mapping[str, Any]) -> list[str]:
        """The command that W&B's agent would run.

        Args:
            parameters: values by name, as ``decode`` gives them.
        """
        flags = [f"{name}={value}" for name, value in parameters.items()]
        macros = {
            "${env}": ["/usr/bin/env"],
            "${interpreter}": ["python"],
            "${program}": [self.search.get("program", "")],
            "${args}": [f"--{flag}" for flag in flags],
            "${args_no_hyphens}": flags,
            "${args_no_equals}": [word for name, value in parameters.items() for word in (f"--{name}", str(value))],
            "${args_no_boolean_flags}": [
                f"--{name}" if value is True else f"--{name}={value}"
                for name, value in parameters.items()
                if value is not False
            ],
            "${args_json}": [json.dumps(dict(parameters))],
        }
        words = []
        for chunk in map(str, self.search.get("command") or DEFAULT_COMMAND):
            chunk = ENVIRONMENT.sub(lambda found: os.environ.get(found[1], found[1]), chunk)
            if chunk.startswith("${") and chunk.endswith("}") and chunk not in macros:
                refuse(self.path, f"command: {chunk}", macros)
            words += macros.get(chunk, [chunk])
        return words

    def sampler(self, seed: int) -> BaseSampler:
        """What draws one trial; the points of a grid are not drawn but queued."""
        if self.method == "bayes":
            # Trials that other workers are running count as bad, so that two workers do not go to one place.
            return TPESampler(seed=seed, constant_liar=True)
        return RandomSampler(seed=seed)

    def pruner(self) -> BasePruner:
        """W&B's ``hyperband`` is one bracket of successive halving: steps min_iter, min_iter * eta, ..."""
        early = self.search.get("early_terminate")
        if early is None:
            return NopPruner()
        check_keys(self.path, "early_terminate", early, ("type", "min_iter", "max_iter", "s", "eta"))
        if early.get("type") != "hyperband":
            raise FerlError(f"{self.path}: early_terminate.type is {early.get('type')!r}; only hyperband is known")
        for key in early.keys() - {"type"}:
            least = 2 if key == "eta" else 1
            if not is_integer(early[key]) or early[key] < least:
                raise FerlError(
                    f"{self.path}: early_terminate.{key} is {early[key]!r}, expected a whole number from {least}"
                )
        eta, first = early.get("eta", 3), early.get("min_iter")
        if "max_iter" in early and "s" in early and first is None:
            # The first of at most s steps max_iter / eta, max_iter / eta ** 2, ... that is not below one.
            first = next(
                (int(early["max_iter"] / eta**i) for i in range(early["s"], 0, -1) if early["max_iter"] >= eta**i), 0
            )
        if not first or ("max_iter" in early and "min_iter" in early):
            raise FerlError(f"{self.path}: early_terminate needs min_iter, or else both s and a max_iter not below eta")
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=eta)


def read(path: Path) -> Sweep:
    """Read and check a sweep file.

    Args:
        path: YAML in W&B's format, with a method, a metric and parameters.

    Raises:
        FerlError: the file cannot be read, or has a key or value that would not be searched as W&B would.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise FerlError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise FerlError(f"{path} is not YAML: {error}") from None
    if not isinstance(config, dict) or not {"method", "metric", "parameters"} <= config.keys():
        raise FerlError(f"{path}: a sweep file needs the keys method, metric and parameters")
    check_keys(path, "", config, SEARCH_KEYS + OTHER_KEYS)
    if config["method"] not in METHODS:
        refuse(path, f"method: {config['method']}", METHODS)
    check_keys(path, "metric", config["metric"], ("name", "goal"))
    if not isinstance(config["metric"].get("name"), str):
        raise FerlError(f"{path}: metric.name must be a column of metrics.csv, as val/accuracy")
    if (goal := config["metric"].get("goal", "minimize")) not in ("minimize", "maximize"):
        refuse(path, f"metric.goal: {goal}", ("minimize", "maximize"))
    command = config.get("command") or DEFAULT_COMMAND
    if not isinstance(command, list) or not any(str(word).startswith("${args") for word in command):
        raise FerlError(f"{path}: command must be a list of words with ${{args}} among them, for the parameters")
    if "${program}" in command and not config.get("program"):
        raise FerlError(f"{path}: the command has ${{program}}, but there is no key program")
    run_cap = config.get("run_cap")
    if run_cap is not None and (not is_integer(run_cap) or run_cap < 1):
        raise FerlError(f"{path}: run_cap is {run_cap!r}, expected a whole number from 1")
    if not isinstance(config["parameters"], dict) or not config["parameters"]:
        raise FerlError(f"{path}: parameters must name what to search, as model.sequence.hidden: {{values: [64, 128]}}")

    # By name, which is W&B's order, and puts the class of a part before its options.
    space = {name: distribution(path, name, config["parameters"][name]) for name in sorted(config["parameters"])}
    search = {key: config[key] for key in SEARCH_KEYS if config.get(key) is not None}
    sweep = Sweep(path, json.loads(json.dumps(search, default=str)), run_cap, space)
    sweep.pruner()
    sweep.words({})
    if sweep.method == "grid":
        for name, kind in space.items():
            if not isinstance(kind, CategoricalDistribution) and not getattr(kind, "step", None):
                raise FerlError(f"{path}: parameters.{name} has no end of values; a grid needs values, or a q_uniform")
    return sweep
