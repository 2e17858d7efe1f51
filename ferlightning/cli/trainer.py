"""fit, validate, test and predict: one LightningCLI, with run folders and checkpoints that restore by themselves."""

import copy
import logging
import os
import warnings
from collections.abc import Sequence
from datetime import datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any, cast
from zipfile import is_zipfile

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger

from ferlightning.checkpoint import read_checkpoint
from ferlightning.cli.messages import explain
from ferlightning.data.datamodule import FaceData
from ferlightning.errors import FerlError
from ferlightning.evaluation.report import Report as Report
from ferlightning.models.classifier import Classifier as Classifier  # imported so that its short name works
from ferlightning.models.ensemble import Ensemble

# Nothing that a user could act on.
warnings.filterwarnings("ignore", ".*LeafSpec.*")
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "litlogger" not in record.msg)

DEFAULTS = Path(__file__).with_name("defaults.yaml")
LINKED = ("class_names", "class_counts", "pixel_mean", "pixel_std")  # what a model takes from the data
RUN_FOLDER = "FERL_RUN_FOLDER"  # tells the processes that a launcher starts which folder the first one chose


class SaveConfig(SaveConfigCallback):
    """Gives the resolved configuration to the report; a fit's also to the run folder and to loggers that keep it."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not trainer.is_global_zero or self.already_saved:
            return
        self.already_saved = True
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for key in ("ckpt_path", "weights_only", "test_after_fit", "verbose"):
            config.pop(key, None)  # arguments of one command; the configuration serves the others too
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Report):
                callback.config = config
        if stage != "fit":
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / "config.yaml.tmp"
        temporary.write_text(yaml.safe_dump(config, sort_keys=False))
        temporary.rename(folder / "config.yaml")
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):
                logger.log_hyperparams(config)


class RefusedError(Exception):
    """The parser's own words, to be made readable once all nested parsers have had their say."""


class FerlParser(LightningArgumentParser):
    """Raises where the original prints the usage of everything and exits."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise RefusedError(message)

    def parse_args(self, args: Sequence[str] | None = None, *others: Any, **options: Any) -> Any:  # type: ignore[override]
        # On its way to the parser of a nested class, jsonargparse turns a null into the word None.
        if args is not None:
            args = [arg.removesuffix("None") + "null" if arg.endswith("=None") else arg for arg in args]
        return super().parse_args(args, *others, **options)


class FerlCLI(LightningCLI):
    """LightningCLI for our model and data, with a run folder for each fit."""

    def __init__(self, args: Sequence[str]) -> None:
        self.command = args[0]
        self.ckpt_path = _option(args, "ckpt_path")
        args = list(args)
        if self.ckpt_path:
            if not Path(self.ckpt_path).is_file():
                raise FerlError(f"--ckpt_path: there is no file {self.ckpt_path}")
            if not is_zipfile(self.ckpt_path):
                raise FerlError(f"--ckpt_path: {self.ckpt_path} is not a checkpoint, or is cut short; use another one")
            saved = Path(self.ckpt_path).resolve().parent.parent / "config.yaml"
            if saved.is_file():
                args[1:1] = ["--config", str(saved)]  # first, so that whatever the user types wins
            elif _option(args, "config") is None:
                raise FerlError(
                    f"{self.ckpt_path} is in no run folder: there is no {saved}. Say with --config how it was built"
                )
        _check_yaml(_options(args, "config"))
        self.run_folder = self._choose_run_folder(args)
        super().__init__(
            LightningModule,
            FaceData,
            save_config_callback=SaveConfig,
            parser_class=FerlParser,
            parser_kwargs={name: {"default_config_files": [str(DEFAULTS)]} for name in self.subcommands()},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--test_after_fit", type=bool, default=False, help="After fit, test the best checkpoint once."
        )
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def setup_parser(self, *args: Any) -> None:
        super().setup_parser(*args)
        for name in ("validate", "test"):  # the report prints a better table than the trainer
            self._subcommand_parsers[name].set_defaults({"verbose": False})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        try:
            self.config = parser.parse_args(cast(Sequence[str], args))
        except RefusedError as error:
            raise FerlError(explain(str(error))) from None

    def _parse_ckpt_path(self) -> None:
        """Not Lightning's: there, hyper-parameters stored in a checkpoint silently beat what the user types."""

    def _choose_run_folder(self, args: Sequence[str]) -> Path:
        """What the user says, the folder of the checkpoint, or a new one ``runs/<config name>/<time>``."""
        if chosen := _option(args, "trainer.default_root_dir"):
            if self.command == "fit" and not self.ckpt_path and Path(chosen, "config.yaml").exists() and _is_first():
                raise FerlError(
                    f"--trainer.default_root_dir: {chosen} holds a run already; choose another folder, or go on with "
                    f"that run by --ckpt_path={chosen}/checkpoints/last.ckpt"
                )
            return Path(chosen).resolve()
        if self.ckpt_path:
            return Path(self.ckpt_path).resolve().parent.parent
        if not _is_first():
            if RUN_FOLDER not in os.environ:
                raise FerlError(
                    "several processes were started from outside, so each would choose a run folder of its own: give "
                    "them one with --trainer.default_root_dir"
                )
            return Path(os.environ[RUN_FOLDER])
        name = "+".join(Path(value).stem for value in _options(args, "config")) or "default"
        now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        runs = Path("runs", name).resolve()
        folder = next(path for n in count() if not (path := Path(runs, f"{now}_{n}" if n else now)).exists())
        os.environ[RUN_FOLDER] = str(folder)
        return folder

    def before_instantiate_classes(self) -> None:
        model, checkpoint = self.config[self.command].model, self.ckpt_path
        if model.class_path == f"{Ensemble.__module__}.{Ensemble.__name__}":
            if self.command == "fit":
                raise FerlError("model: an Ensemble is made of trained members; fit those, each in a run of its own")
            checkpoint = next((path for path in model.init_args.checkpoints if is_zipfile(path)), None)
        if self.command != "fit" and checkpoint:
            self._take_classes_of(checkpoint)
        # The saved configuration is the one before these paths are put in, so that a run folder can be moved.
        config = self.config[self.command]
        self.config_to_save = copy.deepcopy(config)
        trainer = config.trainer
        trainer.default_root_dir = str(self.run_folder)
        loggers = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
        if self.command != "fit" and isinstance(trainer.logger, list):
            # A new CSV logger would delete the metrics.csv of the fit.
            trainer.logger = loggers = [x for x in loggers if not x.class_path.endswith(".CSVLogger")]
        for logger in loggers:
            if hasattr(logger, "class_path"):
                logger.init_args.save_dir = str(self.run_folder)
                if logger.class_path.endswith(".CSVLogger"):
                    logger.init_args.name = logger.init_args.version = ""

        log = self.run_folder / "metrics.csv"
        if (
            self.command == "fit" and log.exists() and _is_first()
        ):  # resumed: the new logger would delete what went before
            log.rename(next(path for n in count(1) if not (path := log.with_name(f"metrics.{n:03}.csv")).exists()))

    def _take_classes_of(self, checkpoint: str) -> None:
        """Other data than a model was trained on have other classes, in another order: match them by name."""
        options = self.config[self.command].data.get("init_args", {})
        if options.get("classes", "") is None:
            options["classes"] = read_checkpoint(checkpoint, device="meta").get("class_names")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        changed, self.config[self.command] = self.config[self.command], self.config_to_save
        try:
            return super().instantiate_trainer(**kwargs)
        finally:
            self.config[self.command] = changed

    def before_fit(self) -> None:
        self.datamodule.check_training()

    def after_fit(self) -> None:
        """Report on the best checkpoint: on validation always, on test only if asked for."""
        trainer, checkpoint = self.trainer, self.trainer.checkpoint_callback
        best = getattr(checkpoint, "best_model_path", "")
        if not best:  # as in a fast_dev_run
            return
        # metrics.csv is the log of the training; a row more would be a bend at the end of the learning curves.
        trainer.loggers = [logger for logger in trainer.loggers if not isinstance(logger, CSVLogger)]
        # After a fit, weight averaging replaces the averaged weights of a loaded checkpoint by those it was training.
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        trainer.callbacks = [x for x in callbacks if not isinstance(x, WeightAveraging)]  # type: ignore[attr-defined]
        trainer.validate(self.model, self.datamodule, ckpt_path=best, verbose=False)
        if self.config[self.command].test_after_fit:
            trainer.test(self.model, self.datamodule, ckpt_path=best, verbose=False)


def _is_first() -> bool:
    """Whether this process was started by a person, not by another process of the same run."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _check_yaml(configs: Sequence[str]) -> None:
    """Say where a configuration is not YAML: the parser tells neither the file nor what is meant by its line."""
    for path in configs:
        try:
            yaml.safe_load(Path(path).read_text())
        except OSError as error:
            raise FerlError(f"--config: cannot read {path}: {error.strerror}") from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else "?"
            raise FerlError(f"--config: {path}, line {line}: {error.problem}; this is not YAML") from None


def _options(args: Sequence[str], name: str) -> list[str]:
    """Values of all ``--name value`` and ``--name=value`` in an argument list."""
    names = {f"--{name}", "-c"} if name == "config" else {f"--{name}"}
    values = [value for option, value in pairwise(args) if option in names]
    return values + [arg.partition("=")[2] for arg in args if arg.partition("=")[0] in names and "=" in arg]


def _option(args: Sequence[str], name: str) -> str | None:
    return next(reversed(_options(args, name)), None)
