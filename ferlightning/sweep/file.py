"""A sweep file in W&B's format: the space it searches, in Optuna's terms, and the command of each of its runs."""

import json
import math
import os
import re
from collections.abc import Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import Trial
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from ferlightning.bounded_yaml import load
from ferlightning.errors import FerlError

Distribution = Literal[
    "constant", "categorical", "int_uniform", "uniform", "q_uniform", "log_uniform", "log_uniform_values"
]
KEYS = {"constant": ["value"], "categorical": ["values"], "q_uniform": ["min", "max", "q"]}  # else min and max
NOT_SEARCHED = {"name", "description", "project", "entity"}  # keys for W&B's pages
ENVIRONMENT = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = "; in YAML 1e-4 is a word, 1.0e-4 a number" if isinstance(value, str) else ""
        raise ValueError(f"{value!r} is not a number{hint}")
    return value


Number = Annotated[Any, AfterValidator(_number)]  # int | float would report each mistake twice


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Metric(_Keys):
    """What a search improves: a column of ``metrics.csv``; W&B minimises it unless told otherwise."""

    name: str
    goal: Literal["minimize", "maximize"] = "minimize"


class Hyperband(_Keys):
    """When trials stop early: of those that reach step ``min_iter * eta**k``, the best 1 / eta go on."""

    type: Literal["hyperband"]
    min_iter: PositiveInt | None = None
    max_iter: PositiveInt | None = None
    s: PositiveInt | None = None
    eta: Annotated[int, Field(ge=2)] = 3

    @model_validator(mode="after")
    def _find_first_step(self) -> Self:
        if bool(self.min_iter) == bool(self.max_iter and self.s):
            raise ValueError("expected either min_iter, or both s and max_iter")
        if self.max_iter and self.s:
            # The first of at most s steps max_iter / eta, max_iter / eta**2, ... that is not below one.
            self.min_iter = next(filter(None, (self.max_iter // self.eta**i for i in range(self.s, 0, -1))), 1)
        return self


class Parameter(_Keys):
    """The values that a parameter may take."""

    value: Any = None
    values: Annotated[list[Any], Field(min_length=1)] | None = None
    distribution: Distribution | None = None
    min: Number = None
    max: Number = None
    q: Number = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.to_optuna()
        return self

    def to_optuna(self) -> BaseDistribution:
        """Say the same in Optuna's terms.

        Raises:
            ValueError: a key is missing or one too many, or W&B would draw from something else.
        """
        low, high, q = self.min, self.max, self.q
        given = self.model_fields_set - {"distribution"}
        whole = isinstance(low, int) and isinstance(high, int)
        ranged: Distribution = "int_uniform" if whole else "uniform"
        kind = self.distribution or ("constant" if "value" in given else "categorical" if "values" in given else ranged)
        keys = KEYS.get(kind, ["min", "max"])
        if given != set(keys):
            raise ValueError(
                f"a distribution {kind} is given by {', '.join(keys)}, not {', '.join(sorted(given)) or 'nothing'}"
            )
        match kind:
            case "constant" | "categorical":
                values = self.values or [self.value]
                choices = list(dict.fromkeys(map(_scalar, values)))  # a value that is there twice would be tried twice
                if len(choices) < len({repr(value) for value in values}):
                    raise ValueError("Optuna does not tell two of the values apart, such as 1 and true")
                return CategoricalDistribution(choices)
            case "int_uniform" if whole:
                return IntDistribution(low, high)
            case "q_uniform" if q > 0 and all(abs(end / q - round(end / q)) < 1e-9 for end in (low, high)):
                if isinstance(q, int):
                    return IntDistribution(round(low), round(high), step=q)
                return FloatDistribution(low, high, step=q)
            case "log_uniform" if low > 0 and high <= 1:
                raise ValueError(
                    f"log_uniform takes exponents of e, so that {low} to {high} are {math.exp(low):.4g} to "
                    f"{math.exp(high):.4g}; write log_uniform_values for the values themselves"
                )
            case "log_uniform":  # of exponents
                return FloatDistribution(math.exp(low), math.exp(high), log=True)
            case "uniform" | "log_uniform_values":
                return FloatDistribution(low, high, log=kind != "uniform")
        raise ValueError("int_uniform needs whole numbers, and q_uniform a min and a max that are multiples of its q")


class Sweep(_Keys):
    """A search; the attributes are the keys of the file."""

    method: Literal["grid", "random", "bayes"]
    metric: Metric
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    early_terminate: Hyperband | None = None
    program: str = ""
    command: list[str | int | float] = ["${env}", "${interpreter}", "${program}", "${args}"]
    run_cap: PositiveInt | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        macros = self._macros({})
        words = [ENVIRONMENT.sub("", str(word)) for word in self.command]
        if unknown := [word for word in words if word.startswith("${") and word not in macros]:
            raise ValueError(f"command: {unknown[0]} is not supported; known: {', '.join(macros)}")
        if not any(word.startswith("${args") for word in words):
            raise ValueError("command: expected ${args} among the words, for the parameters")
        if "${program}" in words and not self.program:
            raise ValueError("command: it has ${program}, but there is no key program")
        if self.method == "grid":
            self.points()
        return self

    @cached_property
    def space(self) -> dict[str, BaseDistribution]:
        """The parameters by name, which is W&B's order and puts the class of a part before its options."""
        return {name: self.parameters[name].to_optuna() for name in sorted(self.parameters)}

    def identity(self) -> dict[str, Any]:
        """What makes two searches the same one, as JSON."""
        return self.model_dump(mode="json", exclude={"run_cap"}, exclude_unset=True)

    def total(self, trials: int | None) -> int:
        """Count the trials of the whole search.

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
            raise FerlError(f"a search by {self.method} has no end: give run_cap in the file, or --trials=N")
        return wanted

    def points(self) -> list[dict[str, Any]]:
        """List all combinations of a grid, the last parameter varying fastest.

        Raises:
            ValueError: a parameter has no end of values.
        """
        axes: list[list[Any]] = []
        for name, kind in self.space.items():
            if isinstance(kind, CategoricalDistribution):
                axes.append(list(kind.choices))
            elif isinstance(kind, IntDistribution):
                axes.append(list(range(kind.low, kind.high + 1, kind.step)))
            elif isinstance(kind, FloatDistribution) and kind.step:
                steps = range(round((kind.high - kind.low) / kind.step) + 1)
                axes.append([round(kind.low + i * kind.step, 12) for i in steps])
            else:
                raise ValueError(f"parameters.{name} has no end of values; a grid needs values, or a q_uniform")
        return [dict(zip(self.space, point, strict=True)) for point in product(*axes)]

    def suggest(self, trial: Trial) -> None:
        """Draw each parameter of a trial that it does not have yet."""
        for name, kind in self.space.items():
            if isinstance(kind, CategoricalDistribution):
                trial.suggest_categorical(name, kind.choices)
            elif isinstance(kind, IntDistribution):
                trial.suggest_int(name, kind.low, kind.high, step=kind.step)
            elif isinstance(kind, FloatDistribution):
                trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)

    def words(self, parameters: Mapping[str, Any]) -> list[str]:
        """Build the command that W&B's agent would run.

        Args:
            parameters: values by name, as Optuna keeps them.
        """
        values: dict[str, Any] = {}
        for name in (name for name in self.space if name in parameters):
            # Lists, which Optuna keeps as words, are lists again.
            listed = [*(self.parameters[name].values or []), self.parameters[name].value]
            values[name] = next((value for value in listed if str(value) == parameters[name]), parameters[name])
        macros = self._macros(values)
        words = (ENVIRONMENT.sub(lambda found: os.environ.get(found[1], found[1]), str(word)) for word in self.command)
        return [part for word in words for part in macros.get(word, [word])]

    def _macros(self, values: dict[str, Any]) -> dict[str, list[str]]:
        flags = [f"{name}={value}" for name, value in values.items()]
        booleans = [
            name if value is True else f"{name}={value}" for name, value in values.items() if value is not False
        ]
        return {
            "${env}": ["/usr/bin/env"],
            "${interpreter}": ["python"],
            "${program}": [self.program],
            "${args}": [f"--{flag}" for flag in flags],
            "${args_no_hyphens}": flags,
            "${args_no_equals}": [word for name, value in values.items() for word in (f"--{name}", str(value))],
            "${args_no_boolean_flags}": [f"--{flag}" for flag in booleans],
            "${args_json}": [json.dumps(values)],
        }

    def sampler(self, seed: int) -> BaseSampler:
        """Make what draws a trial; the points of a grid are not drawn but queued."""
        if self.method == "bayes":
            # Trials that other workers are running count as bad, so that two workers do not go to one place.
            return TPESampler(seed=seed, constant_liar=True)
        return RandomSampler(seed=seed)

    def pruner(self) -> BasePruner:
        """Make what stops trials early. W&B's ``hyperband`` is one bracket of successive halving."""
        early = self.early_terminate
        if early is None or early.min_iter is None:
            return NopPruner()
        return SuccessiveHalvingPruner(min_resource=early.min_iter, reduction_factor=early.eta)


def _scalar(value: Any) -> Any:
    """Turn a list, which Optuna does not store, into the word that it is on the command line."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def read(path: Path) -> Sweep:
    """Read and check a sweep file.

    Args:
        path: YAML in W&B's format, with a method, a metric and parameters.

    Raises:
        FerlError: the file cannot be read, or has a key or value that W&B would refuse or search differently.
    """
    try:
        config = load(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise FerlError(f"{path} is no sweep: expected the keys method, metric and parameters")
        config = {key: value for key, value in config.items() if key not in NOT_SEARCHED}
        return Sweep.model_validate(config)
    except OSError as error:
        raise FerlError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OverflowError) as error:
        raise FerlError(f"{path} is not YAML that can be read: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) + ": " if first["loc"] else ""
        words = {
            "extra_forbidden": "is not supported", "missing": "is missing",
            "model_type": "expected what it may be, such as {values: [1, 2]}, {min: 0.1, max: 0.9} or {value: 1}",
        }  # fmt: skip
        what = words.get(first["type"], first["msg"])
        raise FerlError(f"{path}: {where}{what.removeprefix('Value error, ')}") from None
