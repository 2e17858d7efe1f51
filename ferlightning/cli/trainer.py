"""fit, validate, test and predict: one LightningCLI, with run folders and checkpoints that restore by themselves."""

import copy
import json
import logging
import os
import re
import signal
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from enum import Enum
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from filelock import FileLock
from jsonargparse import _paths, _typehints, dict_to_namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ferlightning.checkpoint import CONFIG, checkpoint_of, read_checkpoint, read_header
from ferlightning.cli import index
from ferlightning.cli.check import DEFAULTS
from ferlightning.cli.configs import read
from ferlightning.cli.going_on import (
    EndAlone,
    check_schedule,
    early_stopped,
    nothing_left,
    own,
    put_back,
    puts_back,
    refuse_another_optimizer,
    stopped,
)
from ferlightning.cli.main import COMMANDS
from ferlightning.cli.memory import keep_freed_memory
from ferlightning.cli.messages import RefusedError, Refusing, explain, meant
from ferlightning.cli.precision import check_devices, check_precision, fast_precision, is_fast
from ferlightning.cli.run_folder import (
    choose,
    is_first,
    link_latest,
    other_than_saved,
    remove_if_empty,
    run_of,
    without_added_lists,
)
from ferlightning.cli.saved import images_of, read_saved, take_classes, with_network
from ferlightning.cli.short import NO_DATA, names_data
from ferlightning.cli.summary import next_commands, print_summary, steps_of_epoch
from ferlightning.cli.tracking import draw_graph, go_offline_if_unreachable
from ferlightning.cli.trust import vet
from ferlightning.cli.words import in_order, values
from ferlightning.data.datamodule import FaceData
from ferlightning.data.sources.photos import Photos
from ferlightning.errors import FerlError
from ferlightning.evaluation.report import Report as Report
from ferlightning.files import replacing
from ferlightning.models.averaging import EMA as EMA  # imported so that its short name works
from ferlightning.models.classifier import Classifier as Classifier
from ferlightning.models.ensemble import Ensemble
from ferlightning.models.files import CheckpointFiles
from ferlightning.models.optim import ReduceLROnPlateau, better
from ferlightning.models.sized import at_most_of
from ferlightning.parts.losses.classification import CrossEntropy
from ferlightning.signals import HANG_UP, asked_to_end
from ferlightning.weights import REGISTRY, find_weights

log = logging.getLogger(__name__)

# Nothing that a user could act on. Lightning's advice on workers is wrong for data that are mapped into memory.
warnings.filterwarnings("ignore", ".*LeafSpec.*")
warnings.filterwarnings("ignore", ".*does not have many workers.*")
warnings.filterwarnings("ignore", ".*Experiment logs directory .* exists.*")  # an older log is renamed, not deleted
warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty.*")  # a run that goes on
warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`, callbacks.*")  # left out on purpose
warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")  # what lr_scale freezes
warnings.filterwarnings("ignore", "The dirpath has changed from .*")  # of a command that saves no checkpoint
warnings.filterwarnings("ignore", ".*have no logger configured.*")  # an evaluation's metrics are in its report
warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")  # metrics are logged once an epoch
NOISE = (
    "GPU available: False",
    "💡 Tip: ",
    "TPU available",
    "Restoring states",
    "Loaded model",
    "`Trainer.fit` stopped: `max_epochs",
)
"""How lines of Lightning begin that say nothing, or what we print."""
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
    lambda record: "litlogger" not in record.msg and not record.msg.startswith(NOISE)
)

# Defaults of some of Lightning's callbacks, such as Timer's, are enumerations.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, value: dumper.represent_data(value.value))

KINDS = (ModelCheckpoint, LearningRateMonitor, ProgressBar, Report)
"""Classes of our callbacks."""
ONE_COMMAND = ("ckpt_path", "weights_only", "verbose", "trust", "untrained", "name", "open", "quiet")
"""Arguments of one command; a saved configuration serves the others too."""


class OtherCheckpoint(ModelCheckpoint):
    """A ``ModelCheckpoint`` of a user beside ours: by its name, a checkpoint tells the states of the two apart."""


class SaveConfig(SaveConfigCallback):
    """Gives the resolved configuration to the report; a fit's also to run folder, checkpoints and loggers."""

    resolved: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not trainer.is_global_zero or self.already_saved:
            return
        self.already_saved = True
        # Not checked again: parsing has, and the check of every class takes as long as parsing it.
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False, skip_validation=True))
        for key in ONE_COMMAND:
            config.pop(key, None)
        self.resolved = config
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Report):
                callback.config = config
                if self.config.get("untrained"):
                    callback.remarks = ["The network is untrained: its weights are random."]
        if stage != "fit":
            return
        with replacing(Path(trainer.default_root_dir, "config.yaml")) as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False))
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):
                logger.log_hyperparams(config)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[CONFIG] = self.resolved  # so that a checkpoint needs no folder around it

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let a moved run find its best epoch, which Lightning knows by the old path, and take a new patience."""
        now, states = Path(trainer.default_root_dir, "checkpoints"), checkpoint.get("callbacks", {})
        for name, state in [*states.items()]:
            if not isinstance(state, dict) or "best_model_path" not in state:
                continue
            if (now / Path(state["best_model_path"]).name).exists():
                states[name] = _moved(state, str(state["dirpath"]), str(now))
            else:  # elsewhere, where none of those epochs is
                del states[name]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and callback.state_key in states:
                states[callback.state_key]["patience"] = callback.patience

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train no more epochs if early stopping had ended the resumed run."""
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if any(early_stopped(callback, getattr(callback, "wait_count", 0)) for callback in callbacks):
            trainer.should_stop = True


class FerlParser(Refusing, LightningArgumentParser):
    """Chooses classes before their options are set."""

    def parse_args(self, args: Sequence[str] | None = None, *others: Any, **options: Any) -> Any:  # type: ignore[override]
        return super().parse_args(None if args is None else in_order(args), *others, **options)


class FerlCLI(LightningCLI):
    """LightningCLI for our model and data, with a run folder for each fit."""

    def __init__(self, args: Sequence[str], again: bool = False, start: str | None = None) -> None:
        """Run a command.

        Args:
            args: the command and its options.
            again: it was given before, and goes on from the checkpoint in it.
            start: file of weights whose network is trained on, with images as it knows them, if nothing else is said.
        """
        self.command = args[0]
        self.words = args[1:]
        self.named_folder = bool(values(args, "trainer.default_root_dir"))
        self.ckpt_path = next(reversed(values(args, "ckpt_path")), None)
        self.header: dict[str, Any] = {}
        """What the checkpoint says of its network, or the first of an ensemble of its own."""
        args = list(args)
        if self.ckpt_path in REGISTRY:
            self.ckpt_path = str(find_weights(self.ckpt_path))
            args.append(f"--ckpt_path={self.ckpt_path}")
        self.saved: dict[str, Any] | None = None
        if self.ckpt_path:
            self.saved, self.header = read_saved(self.ckpt_path, args)
        self.names_data = names_data(self.words) or "data" in (self.saved or {})
        if self.saved is not None:
            saved = without_added_lists(self.saved, args) if again else self.saved
            if self.command != "fit":
                args += images_of(self.header, args)
            args[1:1] = ["--config", json.dumps(saved)]  # first, so that whatever the user types wins
        if start is not None:
            args = with_network(args, start)
        self.run_folder, self.made = choose(args, self.ckpt_path)
        for i in reversed(range(len(args))):  # they must be told a place; the run folder takes its, as in the defaults
            if re.fullmatch(r"--trainer\.logger\+?=(.*\.)?(CSV|TensorBoard)Logger", args[i]):
                args.insert(i + 1, "--trainer.logger.save_dir=runs")
        try:
            super().__init__(
                LightningModule,
                FaceData,
                save_config_callback=SaveConfig,
                parser_class=FerlParser,
                parser_kwargs={
                    self.command: {"description": COMMANDS[self.command], "default_config_files": [str(DEFAULTS)]}
                },
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=args,
            )
        finally:
            if self.made:
                remove_if_empty(self.run_folder)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--test_after_fit", type=bool, default=False, help="After fit, test the best checkpoint once."
        )
        parser.add_argument(
            "--trust",
            action="store_true",
            help="Build whatever the run folder or checkpoint names: this runs its code.",
        )
        if self.command in ("validate", "test"):
            parser.add_argument(
                "--untrained", action="store_true", help="Evaluate random weights, where no checkpoint is given."
            )
        parser.add_argument("--name", type=str | None, default=None, help="Run folder: runs/NAME/TIME.")
        parser.add_argument("--open", action="store_true", help="Show the report in a browser.")
        parser.add_argument("--quiet", action="store_true", help="Print the place of the results alone.")
        for name in index.LINKED:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the command that was typed: each parser takes a tenth of a second."""
        return {self.command: super().subcommands()[self.command]}

    def setup_parser(self, *args: Any) -> None:
        super().setup_parser(*args)
        if self.command in ("validate", "test"):  # the report prints a better table than the trainer
            self._subcommand_parsers[self.command].set_defaults({"verbose": False})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        try:
            self.config = parser.parse_args(cast(Sequence[str], args))
        except RefusedError as error:
            raise FerlError(explain(str(error))) from None

    def _parse_ckpt_path(self) -> None:
        """Not Lightning's: there, hyper-parameters stored in a checkpoint silently beat what the user types."""

    def before_instantiate_classes(self) -> None:
        if not self.names_data:
            raise FerlError(
                NO_DATA
                if self.command == "fit" and not self.ckpt_path
                else f"ferl {self.command}: on what? This model does not say of which data it is. Give some after it, "
                f"ferl {self.command} RUN FACES, or by --data"
            )
        config = self.config[self.command]
        model, checkpoint = config.model, self.ckpt_path
        name = model.class_path.rpartition(".")[2]
        if name == Ensemble.__name__:
            if self.command == "fit":
                raise FerlError("model: an Ensemble is made of trained members; fit those, each in a run of its own")
            config.ckpt_path = None  # each member has its own
            checkpoint = next((str(checkpoint_of(path)) for path in model.init_args.checkpoints), None)
            self.header = read_header(read_checkpoint(checkpoint, device="meta"), checkpoint) if checkpoint else {}
        if self.command != "fit" and self.header:
            is_view = take_classes(config.data, self.header)
            if is_view and "losses" in model.get("init_args", {}) and not values(self.words, "model.losses"):
                plain = f"{CrossEntropy.__module__}.{CrossEntropy.__name__}"
                model.init_args.losses = [dict_to_namespace({"class_path": plain, "init_args": {}})]
        start = model.get("init_args", {}).get("init_from")
        if checkpoint and start and is_first():
            before = (self.saved or {}).get("model", {}).get("init_args", {}).get("init_from")
            if start != before:
                print(f"Note: all weights are those of --ckpt_path; --model.init_from={start} is not used beside it")
        if self.command != "fit" and not checkpoint and name == Classifier.__name__ and not model.init_args.init_from:
            if not config.get("untrained"):
                raise FerlError(
                    f"ferl {self.command} needs a trained model: give --ckpt_path=RUN/checkpoints/best.ckpt"
                    + "; or --untrained, for what random weights give" * (self.command != "predict")
                )
        elif config.get("untrained"):
            raise FerlError("--untrained is for a network without a checkpoint, and this one has weights: leave it out")
        if self.command == "predict" and config.data.init_args.get("predict_folder") and checkpoint:
            self._read_photos()
        self._choose_callbacks()
        self._choose_precision()
        # The saved configuration is the one before these paths are put in, so that a run folder can be moved.
        self.config_to_save = copy.deepcopy(config)
        trainer = config.trainer
        trainer.default_root_dir = str(self.run_folder)
        loggers = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
        if self.command != "fit" and isinstance(trainer.logger, list):
            # A new CSV logger would delete the metrics.csv of the fit.
            trainer.logger = loggers = [x for x in loggers if not x.class_path.endswith(".CSVLogger")]
        elif self.command != "fit" and getattr(trainer.logger, "class_path", "").endswith(".CSVLogger"):
            trainer.logger, loggers = False, []
        if any(getattr(logger, "class_path", "").endswith(".WandbLogger") for logger in loggers) and is_first():
            go_offline_if_unreachable()
        for logger in loggers:
            if "save_dir" in getattr(logger, "init_args", {}):
                logger.init_args.save_dir = str(self.run_folder)
                if logger.class_path.endswith(".CSVLogger"):
                    logger.init_args.name = logger.init_args.version = ""
                elif logger.class_path.endswith(".WandbLogger") and not os.environ.get("WANDB_NAME"):
                    logger.init_args.name = logger.init_args.name or "/".join(self.run_folder.resolve().parts[-2:])

    def instantiate_classes(self) -> None:
        bound = self.ckpt_path if self.command != "fit" and not self.config[self.command].trust else None
        with at_most_of(find_weights(bound).stat().st_size) if bound else nullcontext():
            super().instantiate_classes()

    def _choose_callbacks(self) -> None:
        """Add our callbacks to those that the user gives, except those that the trainer's options switch off."""
        trainer = self.config[self.command].trainer
        given = trainer.callbacks if isinstance(trainer.callbacks, list | None) else [trainer.callbacks]
        if not given:  # [] and null leave out all
            return
        bars = [callback for callback in given if _kind(callback) is ProgressBar]
        given = [callback for callback in given if callback not in bars[:-1]]  # one added takes the place of ours
        switches = {
            ModelCheckpoint: trainer.enable_checkpointing, ProgressBar: trainer.enable_progress_bar,
            LearningRateMonitor: trainer.logger,
        }  # fmt: skip
        off = {kind for kind, switch in switches.items() if switch in (False, [])}
        missing = {*KINDS} - {_kind(callback) for callback in given} - off
        kept = [x for x in given if _kind(x) is ModelCheckpoint]
        files = {x.init_args.get("filename") for x in kept}
        usual = not missing and (not kept or {"best", "last"} <= files)
        ours = [] if usual else self._parser(self.command).get_defaults().trainer.callbacks
        if self.command == "fit" and kept and ModelCheckpoint not in off:
            # Without best.ckpt and last.ckpt in its folder a run could be neither tested nor gone on with.
            added = [x for x in ours if _kind(x) is ModelCheckpoint and x.init_args.filename not in files]
            chosen = next((x.init_args for x in kept if x.init_args.get("monitor")), None)
            if chosen and added and added[0].init_args.filename == "best":
                added[0].init_args.monitor, added[0].init_args.mode = chosen.monitor, chosen.mode
            for x in kept:
                if x.init_args.get("filename") not in ("best", "last") and x.class_path.startswith("lightning."):
                    x.class_path = f"{OtherCheckpoint.__module__}.{OtherCheckpoint.__name__}"
            given = [*added, *given]
        trainer.callbacks = [x for x in ours if _kind(x) in missing] + [x for x in given if _kind(x) not in off]

    def _choose_precision(self) -> None:
        trainer = self.config[self.command].trainer
        check_devices(trainer.accelerator, trainer.devices)
        check_precision(trainer.precision, trainer.accelerator)
        if trainer.precision is None:
            trainer.precision, reason = fast_precision(trainer.accelerator)
            if is_first():
                print(f"Precision: {trainer.precision}, as {reason}. Choose another with --trainer.precision")
        elif not is_fast(trainer.precision, trainer.accelerator) and is_first():
            log.warning(
                "trainer.precision is %s, for which this CPU has no instructions: 32-true is several times faster here",
                trainer.precision,
            )
        if torch.cuda.is_available():
            torch.set_float32_matmul_precision("high")

    def _read_photos(self) -> None:
        """Predict from the photos alone: the training data may be absent."""
        config = self.config[self.command]
        options, shape = config.data.init_args, self.header.get("input", {})
        if not {"read_size", "color", "preprocess"} <= shape.keys():
            return  # of a model that is no Classifier
        kept = {name: options[name] for name in ("batch_size", "workers", "corrupt") if name in options}
        photos = {
            "folder": options.predict_folder, "class_names": self.header["network"]["class_names"],
            "size": shape["read_size"], "color": shape["color"],
            "preprocess": options.preprocess if "data" in (self.saved or {}) else shape["preprocess"],
        }  # fmt: skip
        parser, whole = self._parser(self.command), config.clone()
        whole.data = {"class_path": f"{Photos.__module__}.Photos", "init_args": photos | kept}
        try:
            config.data = parser.parse_object(whole).data
        except (RefusedError, ValueError) as error:
            raise FerlError(f"the checkpoint's images: {explain(str(error))}") from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        changed, self.config[self.command] = self.config[self.command], self.config_to_save
        try:
            given = self.config_init[self.command].trainer
            if str(given.strategy).startswith(("auto", "ddp", "single")):  # others write checkpoints in their own way
                plugins = given.plugins if isinstance(given.plugins, list) else [given.plugins] if given.plugins else []
                kwargs["plugins"] = [*plugins, CheckpointFiles()]
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError, ModuleNotFoundError) as error:
            raise FerlError(f"trainer: {error}") from error
        except RuntimeError as error:
            if "more than one stateful callback" not in str(error):
                raise
            raise FerlError(
                "trainer.callbacks: two of a kind have the same settings, so that a checkpoint could not tell them "
                "apart. Give one another monitor, or another every_n_epochs"
            ) from error
        finally:
            self.config[self.command] = changed
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:  # else it asks the first logger
                callback.dirpath = str(self.run_folder / "checkpoints")
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand != "fit":
            try:
                super()._run_subcommand(subcommand)
            except SystemExit as end:
                if end.code == 1 and self.trainer.interrupted:  # Lightning's answer to Ctrl-C
                    raise KeyboardInterrupt from None
                _refuse_success(end)
                raise
            return
        if self.ckpt_path and nothing_left(self.config.fit, self.trainer, self.ckpt_path, self.run_folder):
            return
        self.lock: FileLock | None = None
        self.earlier_log: Path | None = None
        if self.trainer.world_size > 1:
            self.trainer.callbacks.insert(0, EndAlone())  # type: ignore[attr-defined]
        with (
            # Lightning knows SIGTERM and SIGINT; a third signal takes the way of the first.
            asked_to_end(lambda _: os.kill(os.getpid(), signal.SIGTERM), HANG_UP) as hung_up,
            asked_to_end(put_back, puts_back()),
        ):
            try:
                super()._run_subcommand(subcommand)
            except SystemExit as end:  # Lightning's answer to a signal, with a status of its own
                if isinstance(end, SIGTERMException):
                    stopped(self.run_folder, signal.Signals(hung_up[0]) if hung_up else signal.SIGTERM)
                if end.code == 1 and self.trainer.interrupted:
                    stopped(self.run_folder, signal.SIGINT)
                _refuse_success(end)
                raise
            finally:
                log = self.run_folder / "metrics.csv"
                if self.earlier_log and not log.exists():  # nothing was trained
                    self.earlier_log.rename(log)
                if self.lock:
                    self.lock.release()

    @property
    def result(self) -> Path:
        """The run folder of a training; else the report's folder, or the predictions."""
        reports = [x for x in self.trainer.callbacks if isinstance(x, Report) and x.written]  # type: ignore[attr-defined]
        return cast(Path, reports[0].written) if reports and self.command != "fit" else self.run_folder

    def before_test(self) -> None:
        """Leave the report of the run where it is, if this one is on other data, or of a changed model."""
        split = "val" if self.command == "validate" else "test"
        if not getattr(self.trainer, f"limit_{split}_batches"):
            raise FerlError(f"trainer.limit_{split}_batches is 0, so there is nothing to report on: leave it out")
        if self.ckpt_path and run_of(self.ckpt_path) == self.run_folder and not self.named_folder:
            other = other_than_saved(self.words, self.saved or {})
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, Report) and other:
                    callback.suffix = f"_{other}"

    before_validate = before_test

    def before_fit(self) -> None:
        self.datamodule.check_training()
        if self.saved is not None:
            refuse_another_optimizer(self.config.fit.model.init_args, self.saved)
        self._check_switches()
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, BackboneFinetuning):
                raise FerlError(
                    "trainer.callbacks: BackboneFinetuning wants another make of model. Freeze the backbone by "
                    "--model.lr_scale.backbone=0, and then train all of it in a second run that starts --from the first"
                )
            if isinstance(callback, StochasticWeightAveraging):
                said = "that of WeightAveraging, and of EMA, is validated and saved"
                if self.ckpt_path:
                    raise FerlError(
                        "trainer.callbacks: a training with StochasticWeightAveraging cannot go on, since no "
                        f"checkpoint has its average; {said}"
                    )
                log.warning("No checkpoint and no report is of the average of StochasticWeightAveraging; %s", said)
            if isinstance(callback, LearningRateFinder | BatchSizeFinder):
                raise FerlError(
                    f"trainer.callbacks: {type(callback).__name__} sets what models and data do not have here; "
                    "`ferl sweep` searches for what is best"
                )
        note = ""
        if isinstance(self.model, Classifier):  # what other models log is not known before they do
            self.model.check_training()
            if self.ckpt_path:  # before anything of the run is changed
                self.model.on_load_checkpoint(read_checkpoint(self.ckpt_path, device="meta"))
            options, steps = self.config.fit.model.init_args, steps_of_epoch(self.trainer, self.datamodule)
            note = check_schedule(options, self.trainer, steps, self.ckpt_path)
            if options.get("warmup", 0) >= (self.trainer.max_epochs or -1) > 0:
                note = f"model.warmup is {options.warmup:g} epochs: the training ends before the full learning rate"
            scores = [*map(str, self.model.val_metrics)]
            self._check_monitors(options.scheduler, ["val/loss", *scores, "train/loss", "train/accuracy"])
        keep_freed_memory()
        if not is_first():
            return
        self.lock = own(self.run_folder)
        if self.made:
            link_latest(self.run_folder)
        if note:
            print(f"Note: {note}")
        print_summary(self.trainer, self.model, self.datamodule, self.run_folder, self.config.fit.trainer.accelerator)
        if isinstance(self.model, Classifier):
            shape = self.datamodule.input
            draw_graph(self.trainer.loggers, self.model.network, torch.zeros(1, 1, shape["channels"], *shape["size"]))
        kept = self.run_folder / "metrics.csv"
        if kept.exists():  # resumed: the new logger would delete what went before
            self.earlier_log = next(x for n in count(1) if not (x := kept.with_name(f"metrics.{n:03}.csv")).exists())
            kept.rename(self.earlier_log)

    def _check_switches(self) -> None:
        """Refuse options of the trainer that Lightning would take and leave without effect."""
        trainer, given = self.trainer, self.config.fit.trainer
        if trainer.accumulate_grad_batches < 1:
            raise FerlError("trainer.accumulate_grad_batches is 0, expected a number from 1")
        steps = [x for x in trainer.callbacks if isinstance(x, GradientAccumulationScheduler)]  # type: ignore[attr-defined]
        if steps and trainer.accumulate_grad_batches > 1:
            raise FerlError(
                "trainer.accumulate_grad_batches and GradientAccumulationScheduler both say how many batches make a "
                "step: leave one of them out"
            )
        clip = given.gradient_clip_val
        if clip is not None and clip < 0:
            raise FerlError(f"trainer.gradient_clip_val is {clip}, expected a number above 0, or null")
        if given.gradient_clip_algorithm is not None and clip is None:
            raise FerlError("trainer.gradient_clip_algorithm clips nothing by itself: give --trainer.gradient_clip_val")
        last = trainer.max_epochs
        ends = last not in (None, -1) and not trainer.fast_dev_run  # type: ignore[attr-defined]
        if given.min_epochs is not None and ends and given.min_epochs > last:
            raise FerlError(
                f"trainer.min_epochs is {given.min_epochs}, and the training ends after {last}: give more max_epochs"
            )
        if self.config.fit.test_after_fit and not trainer.limit_test_batches:
            raise FerlError("test_after_fit is asked for, and trainer.limit_test_batches is 0: leave one of them out")

    def _check_monitors(self, schedule: Any, logged: list[str]) -> None:
        """Refuse to monitor what is not logged, which shows after an epoch, or its worst value, which shows nowhere."""
        called = {OtherCheckpoint: ModelCheckpoint.__name__}
        monitors = [
            ("trainer.callbacks", called.get(type(x), type(x).__name__), vars(x))
            for x in self.trainer.callbacks  # type: ignore[attr-defined]
        ]
        if schedule is not None:
            monitors.append(("model.scheduler", schedule.class_path.rpartition(".")[2], schedule.get("init_args", {})))

        def is_known(name: str) -> bool:
            return name in logged or re.match(r"(val|train)/loss_", name) is not None

        for key, kind, options in monitors:
            for shown in re.findall(r"{([^}:]+)", options.get("filename") or ""):
                if shown not in ("epoch", "step") and not is_known(shown):
                    raise FerlError(f"{key}: the filename of {kind} has {shown!r}{meant(shown, logged)}")
            name = options.get("monitor")
            if name is None or name.startswith("lr-"):
                continue
            if not is_known(name):
                full = name if re.search("[/_]", name) else f"val/{name}"
                raise FerlError(f"{key}: {kind} monitors {name!r}{meant(full, logged)}")
            if kind == EarlyStopping.__name__ and name.startswith("val/") and not self.trainer.limit_val_batches:
                raise FerlError(
                    f"{key}: {kind} monitors {name}, and trainer.limit_val_batches is 0: leave one of them out"
                )
            if (options.get("mode") or better(name)) != better(name):
                raise FerlError(
                    f"{key}: {kind} monitors {name} with mode={options['mode']}, as if it were the better the "
                    f"{'larger' if better(name) == 'min' else 'smaller'}: give --{key}.mode={better(name)}"
                )

    def before_predict(self) -> None:
        """Refuse a model of the user's own that says nothing of how it predicts: Lightning would give it the batch."""
        if type(self.model).predict_step is LightningModule.predict_step:
            raise FerlError(
                f"ferl predict: {type(self.model).__name__} has no predict_step; give it one that takes a batch and "
                'returns {"logits": ...} of batch["image"]'
            )

    def after_predict(self) -> None:
        """Fail with the images that could not be read; the others are predicted."""
        unreadable = getattr(self.datamodule, "unreadable", [])
        if unreadable:
            raise FerlError(f"{len(unreadable)} image(s) were left out: " + "; ".join(unreadable))

    def after_fit(self) -> None:
        """Report on the best checkpoint: on validation always, on test only if asked for."""
        trainer, checkpoint = self.trainer, self.trainer.checkpoint_callback
        best = getattr(checkpoint, "best_model_path", None)  # None without checkpoints: then the last weights
        if best == "" and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            log.warning("There is no best checkpoint and no report, because no validation took place")
        if best == "" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        # metrics.csv is the log of the training; a row more would be a bend at the end of the learning curves.
        trainer.loggers = [logger for logger in trainer.loggers if not isinstance(logger, CSVLogger)]
        # After a fit, weight averaging replaces the averaged weights of a loaded checkpoint by those it was training.
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        trainer.callbacks = [x for x in callbacks if not isinstance(x, WeightAveraging)]  # type: ignore[attr-defined]

        def end(number: int) -> None:
            stopped(self.run_folder, signal.Signals(number))

        with asked_to_end(end, signal.SIGTERM, HANG_UP):  # as in `ferl test`: else Lightning would go on to the end
            trainer.validate(self.model, self.datamodule, ckpt_path=best, verbose=False)
            if self.config[self.command].test_after_fit:
                trainer.test(self.model, self.datamodule, ckpt_path=best, verbose=False)
        if best and is_first():
            tested, whole = self.config[self.command].test_after_fit, not isinstance(self.model, Classifier)
            print(next_commands(self.run_folder, tested, " --trust" if self._needs_trust() else "", whole))

    def _needs_trust(self) -> bool:
        """Whether the run folder names parts that are neither ours nor of an installed plug-in."""
        path = self.run_folder / "config.yaml"
        try:
            vet(read(path), path, trust=False)
        except FerlError:
            return True
        return False


def _refuse_success(end: SystemExit) -> None:
    if not end.code:
        raise FerlError(
            "a part, callback or data set ended the process with status 0, by sys.exit or the like, before the command "
            "was done: let it raise an exception instead"
        ) from end


def _by_name(cls: Any, name: str) -> str:
    """The path of a class by its name; our scheduler goes before those of torch and Lightning of the same name."""
    plateau = ReduceLROnPlateau
    return f"{plateau.__module__}.{name}" if name == plateau.__name__ else _by_any_name(cls, name)


def _moved(value: Any, before: str, now: str) -> Any:
    """Replace the beginning of every path in what a callback has stored."""
    if isinstance(value, dict):
        return {_moved(key, before, now): _moved(item, before, now) for key, item in value.items()}
    return now + value.removeprefix(before) if isinstance(value, str) and value.startswith(before) else value


def _kind(callback: Any) -> type | None:
    """Which of our callbacks the class of a configured one stands for."""
    module, _, name = callback.class_path.rpartition(".")
    found = getattr(import_module(module), name)
    return next((kind for kind in KINDS if issubclass(found, kind)), None)


def _discard_all(parser_or_action: Any, previous: Any, value: Any) -> None:
    """Options of a class belong to it. Jsonargparse keeps those that another class of the slot happens to have too."""
    if previous and "init_args" in previous and previous["class_path"] != value["class_path"]:
        previous["init_args"] = type(previous)()


def _open(path: Any, mode: str = "r") -> Any:
    """For jsonargparse, which opens in the system's encoding: UTF-8 within `ferl`, and any other within Python."""
    return open(path, mode, encoding=None if "b" in mode else "utf-8")  # noqa: PTH123


_paths.open = _open  # type: ignore[attr-defined]
_typehints.discard_init_args_on_class_path_change = _discard_all
_by_any_name, _typehints.resolve_class_path_by_name = _typehints.resolve_class_path_by_name, _by_name
