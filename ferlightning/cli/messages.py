"""Turn the parser's long account of a mistake into one sentence: the key, what was found, what may be meant."""

import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from inspect import signature
from typing import Any, Never

from ferlightning import plugins
from ferlightning.cli import index
from ferlightning.plugins import SLOTS

TOP_LEVEL = ("seed_everything", "trainer", "model", "data", "test_after_fit", "ckpt_path", "config")
LIBRARIES = {
    "callbacks": "lightning.pytorch.callbacks",
    "logger": "lightning.pytorch.loggers",
    "optimizer": "torch.optim",
    "scheduler": "torch.optim.lr_scheduler",
}
"""Where the classes are that fill keys other than slots."""
LISTS = ("losses", "augment", "preprocess", "callbacks", "logger")
"""Keys that take several classes."""
WARM_UP = (
    "a configuration cannot give a scheduler others to run. A warm-up is an option of its own, before any schedule: "
    "--model.warmup=EPOCHS --model.scheduler=CosineAnnealingLR"
)

HABITS = {
    "ckpt_path=RUN": "checkpoint checkpoint_path resume resume_from resume_from_checkpoint",
    "config=FILE": "cfg conf config_file yaml",
    "config=loggers/tensorboard": "tensorboard tb",
    "config=loggers/wandb": "wandb report_to use_wandb",
    "data.augment=[Warp]": "aa augmentation augmentations auto_augment transform transforms",
    "data.augment+=CutMix": "cutmix cutmix_alpha",
    "data.augment+=Erase": "random_erase random_erasing reprob",
    "data.augment+=MixUp": "mixup mixup_alpha",
    "data.batch_size": (
        "auto_scale_batch_size b batch batch_size batchsize bs per_device_train_batch_size train_batch_size"
    ),
    "data.classes": "class_names labels names nc num_classes num_labels",
    "data.color": "channels gray grayscale grey in_chans rgb",
    "data=NAME": "dataset dataset_name",
    "data.root": "data_dir data_path data_root datadir dataset_dir dataset_path path source train_dir",
    "data.size": "image_size img_size imgsz input_size resolution size",
    "data.split": "split",
    "data.val_fraction=0.2": "test_size val_ratio val_size val_split valid_ratio validation_split",
    "data.workers": "dataloader_num_workers j num_workers workers",
    "from=WEIGHTS": "finetune init init_from load load_from load_weights pretrained_weights start transfer weights",
    "model.backbone=NAME": "a arch architecture backbone encoder m model_name model_name_or_path net network",
    "model.backbone=Timm --model.backbone.name=NAME": "timm timm_model",
    "model.backbone.pretrained": "pretrained",
    "model.compile=true": "torch_compile torchcompile",
    "model.cuda_graph": "cuda_graphs",
    "model.head.dropout": "dropout drop drop_rate",
    "model.lr_scale.backbone=0": "freeze freeze_backbone linear_probe",
    "model.losses=[CrossEntropy] --model.losses.class_weights=inverse": (
        "class_weight class_weights weighted weighted_loss"
    ),
    "model.losses=[CrossEntropy] --model.losses.label_smoothing=0.1": (
        "label_smoothing label_smoothing_factor smoothing"
    ),
    "model.losses=[FocalLoss]": "criterion loss loss_fn",
    "model.mirror=true": "tta",
    "model.optimizer=SGD": "opt optim optimizer",
    "model.optimizer.lr": "auto_lr_find base_lr learning_rate lr lr0 max_lr",
    "model.optimizer.momentum": "momentum",
    "model.optimizer.weight_decay": "wd weight_decay",
    "model.warmup=EPOCHS": "num_warmup_steps warm_up warmup warmup_epochs warmup_iters warmup_ratio warmup_steps",
    "model.scheduler=CosineAnnealingLR": "cos_lr lr_policy lr_scheduler lr_scheduler_type sched schedule scheduler",
    "name": "exp exp_name experiment project run_name",
    "seed_everything": "manual_seed random_seed seed",
    "trainer.accelerator": "cpu cuda device no_cuda use_cuda use_gpu",
    "trainer.accelerator=tpu": "tpu_cores tpus",
    "trainer.accumulate_grad_batches": "accum accumulate gradient_accumulation_steps iters_to_accumulate",
    "trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/loss": "early_stop early_stopping patience",
    "trainer.callbacks+=EMA": "ema ema_decay model_ema stochastic_weight_avg swa",
    "trainer.default_root_dir": (
        "default_save_path log_dir logdir o out out_dir output output_dir outdir save save_dir save_path "
        "weights_save_path"
    ),
    "trainer.detect_anomaly": "terminate_on_nan",
    "trainer.devices": (
        "auto_select_gpus gpu gpus ipus local_rank n_gpu ngpu ngpus nproc nproc_per_node num_gpus num_processes "
        "world_size"
    ),
    "trainer.enable_checkpointing": "checkpoint_callback",
    "trainer.enable_model_summary": "weights_summary",
    "trainer.enable_progress_bar": "progress_bar progress_bar_refresh_rate show_progress_bar tqdm",
    "trainer.fast_dev_run=true": "debug dry_run smoke smoke_test",
    "trainer.gradient_clip_val": "clip clip_grad clip_grad_norm grad_clip max_grad_norm",
    "trainer.limit_train_batches": "overfit_pct train_percent_check",
    "trainer.limit_val_batches": "val_percent_check",
    "trainer.log_every_n_steps": (
        "flush_logs_every_n_steps log_every log_interval logging_steps print_freq row_log_interval"
    ),
    "trainer.max_epochs": "e ep epoch epochs max_epoch n_epochs niter num_epochs num_train_epochs",
    "trainer.num_nodes": "nnodes nodes",
    "trainer.precision": "amp amp_backend amp_level bf16 fp16 half mixed_precision use_amp",
    "trainer.strategy": "ddp dist distributed distributed_backend multiprocessing_distributed",
    "trainer.use_distributed_sampler": "replace_sampler_ddp",
}
"""By option here: what timm, torchvision's references, Transformers, Ultralytics and others call it."""
_HABITS = {word: option for option, words in HABITS.items() for word in words.split()}
MOST_NAMES = 12
"""Of more, a message lists the first five."""


class RefusedError(Exception):
    """The parser's own message, which is shortened once all nested parsers have reported."""


class Refusing:
    """A parser that takes no abbreviations, and raises where jsonargparse's own prints the usage and exits."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def error(self, message: str, ex: Exception | None = None) -> Never:
        raise RefusedError(message) from ex


def explain(message: str, known: Sequence[str] = TOP_LEVEL) -> str:
    """Shorten a message of jsonargparse; one that fits no pattern is returned as it is.

    Args:
        message: what the parser says, which for nested classes tells every type that was tried.
        known: options of the command.
    """
    key, reasons = _deepest(message)
    if found := re.search(r"does not accept option '([^']+)'|[Uu]nrecognized arguments?: (?:--)?(\S+)", message):
        return _unknown_option((found[1] or found[2]).partition("=")[0], known)
    if found := re.search(r"Option '([^']+)' is not accepted", reasons):
        name = found[1]
        typed = re.search(rf"NestedArg\(key='([\w.]+)\.{re.escape(name)}'", message)
        if typed and not key.endswith(typed[1]):  # of an optimizer, say
            key = f"{key}.{typed[1]}"
        bare = "; it is one of ReduceLROnPlateau by its bare name" if name == "monitor" else ""
        habit = _HABITS.get(name, "")
        if habit.startswith(f"{key}.") and habit != f"{key}.{name}":
            bare = f" (did you mean --{habit}?)"
        if not bare and (owners := [made for made, names in _classes(key).items() if name in names]):
            adds = "+=" if key.split(".")[-1] in LISTS else "="
            bare = f"; it is one of {', '.join(owners[:3])}: choose that class first, --{key}{adds}{owners[0]}"
        return f"{key} has no option {name!r}{bare or _hint(name, _option_names(key))}"
    if found := re.search(r"argument --(\S+): expected one argument", message):
        return f"--{found[1]} has no value: give one, --{found[1]}=VALUE, or --{found[1]}=true if it is a switch"
    if found := re.search(r"Multiple subclasses with name (\S+)\. .*?: (.+)\.", reasons):
        return f"{key}: {found[1]} is the name of several classes; give the full path of one: {found[2]}"
    given = r"(?:Namespace\(class_path='([^']+)'.*|([\w.]+))$"
    if found := re.search(rf"expects a function or a callable class: .*?Got value: {given}", reasons, re.MULTILINE):
        return unknown_part(key, found[1] or found[2], slot_of(key))
    numbers = re.search(r"Subtypes: .*?<class '(float|int)'>", reasons)
    if numbers and (value := re.search(r"Expected a dot import path string: (.+)", reasons)):
        return f"{key} is {value[1]!r}, expected a number"
    if found := re.search(r"Expected a dot import path string: (\S+)|Expected a path but (\S+) either", reasons):
        return unknown_part(key, found[1] or found[2], slot_of(key))
    if found := re.search(r"arguments? (?:is|are) required: (.+)", reasons):
        missing = re.sub(r"^(fit|validate|test|predict)\.", "", found[1])
        if not key:
            return f"{missing} is missing"
        one = "." in key and "," not in missing and key.split(".")[-1] not in LISTS
        how = f"; give it by --{key}.{missing}=VALUE, after --{key}=NAME" if one else ""
        return f"{key}: {WARM_UP}" if "schedulers=" in reasons else f"{key}: {missing} is missing{how}"
    if "Dict must include a class_path" in reasons:
        name = "[NAME]" if key.split(".")[-1] in LISTS else "NAME"
        return f"{key} has no options before its class is chosen: give --{key}={name} first"
    kinds = [
        _kind(kind) for kind in re.findall(r"Expected (?:an? )?(.+?)(?:\. Got value: .*)?$", reasons, re.MULTILINE)
    ]
    if key and kinds and (value := re.search(r"(?:Given|Got) value: (.*)", reasons)):
        own = f"; {value[1]} is an option: --{value[1]}" if value[1] in known else ""
        return f"{key} is {value[1]!r}, expected {' or '.join(dict.fromkeys(kinds))}{own}"
    return message


def unknown_part(key: str, name: str, slot: str | None) -> str:
    """Describe a class that does not exist, or that fits another slot.

    Args:
        key: where it was given, such as ``model.backbone``.
        name: the class.
        slot: that the key fills; None if it takes classes that are not parts, such as optimisers.
    """
    if slot is None:
        called, given, options = name.partition("(")
        if given:
            first = options.partition("=")[0] if "=" in options else "lr"
            return f"{key}: {name!r} is no class; give its options apart, --{key}={called} --{key}.{first}=VALUE"
        module, _, last = name.rpartition(".")
        if hasattr(sys.modules.get(module), last):  # the parser has imported it, to look at it
            fits = LIBRARIES.get(key.split(".")[-1])
            return f"{key}: {name} is no class that fits there{f'; see those of {fits}' if fits else ''}"
        names = getattr(sys.modules.get(LIBRARIES.get(key.split(".")[-1], "")), "__all__", [])
        path = LIBRARIES.get(key.split(".")[-1], "package.module")
        hint = _hint(name.rpartition(".")[2], names) or (
            f"; give its full path, as {path}.{name}" if "." not in name else ""
        )
        return f"{key}: there is no class {name!r}{hint}"
    names = part_names(slot)
    if name.lower() in ("none", "false", "no", "off", ""):
        return f"{key}: there is no part called {name!r}; --{key}=null leaves it out"
    if name in names or ("," in name and key.split(".")[-1] in LISTS):
        return f"{key} is a list: give --{key}=[{name}], or --{key}+=[{name}] to add to it"
    short = re.split("[./]", name)[-1]
    if slot in ("backbone", "model") and (timms := next((x for x in (name, short) if _is_timms(x)), None)):
        key = "model.backbone" if slot == "model" else key
        return f"{key}: {timms} is one of timm's: give --{key}=Timm --{key}.name={timms}"
    if "." in name:
        if hasattr(sys.modules.get(name.rpartition(".")[0]), short):
            return f"{key}: {name} is no {index.base(slot)} of ours or of a plug-in{meant(short, names)}"
        return (
            f"{key}: there is no class {name!r} to import, neither in an installed package nor in the working folder"
            + _hint(short, names)
        )
    elsewhere = [other for other in SLOTS if other != slot and name in part_names(other)]
    kind = "data set, file or folder" if slot == "data" else "part"
    text = f"{key}: there is no {kind} called {name!r}{meant(name, names)}"
    if elsewhere and slot == "model":
        return f"{text}. {name} is a {elsewhere[0]}: give --model.{elsewhere[0]}={name}"
    return text + (f". {name} is a {elsewhere[0]}." if elsewhere else ".") + " See `ferl components`"


def meant(name: str, known: Iterable[str], key: str = "") -> str:
    """Return a hint: what is called so elsewhere; the close names; or all names if they are few."""
    known, plain = list(known), name.replace("-", "_").lower()
    if plain.startswith("no_") and (positive := plain.removeprefix("no_")) in known:
        return f" (did you mean --{key}{'.' * bool(key)}{positive}=false?)"
    habit = _HABITS.get(plain) if plain not in known else None
    if habit and habit.partition("=")[0] != f"{key}.{plain}":  # of which some data sets have none
        return f" (did you mean --{habit}?)"
    if close := _close(name, known):
        return f" (did you mean {' or '.join(close)}?)"
    if len(known) > MOST_NAMES:
        return f" (known: {', '.join(known[:5])} and {len(known) - 5} more)"
    return f" (known: {', '.join(known) or 'none'})"


def part_names(slot: str) -> list[str]:
    """Names of the parts that fit a slot; those of plug-ins too, once these are imported."""
    imported = plugins.parts(slot) if "ferlightning.parts" in sys.modules and slot in SLOTS else []
    return sorted({*index.parts(slot), *(part.__name__ for part in imported)})


def slot_of(key: str) -> str | None:
    """The slot that a key such as ``model.backbone`` fills."""
    last = key.split(".")[-1]
    last = "loss" if last == "losses" else last
    return next((slot for slot in index.BASES if last in slot.split(", ")), None)


def _deepest(message: str) -> tuple[str, str]:
    """The key of the innermost option that was refused, and what is said of it."""
    keys: list[str] = []
    reasons: list[str] = []
    depth = -1
    for line in filter(str.strip, message.splitlines()):
        indent = len(line) - len(line.lstrip(" -"))
        if keys and indent <= depth:
            break
        if found := re.match(r'[ -]*Parser key "([^"]+)"', line):
            keys, reasons, depth = [*keys, found[1]], [], indent
        else:
            reasons.append(line)
    for typed in re.findall(r"NestedArg\(key='([^']+)'", message):  # what the user typed tells every step
        if len(keys) > 1 and typed.endswith(f".{keys[-1]}"):
            keys = [keys[0], typed]
    return ".".join(keys), "\n".join(reasons)


def _kind(kind: str) -> str:
    """A type as a person would call it."""
    kind = kind.removeprefix("<class '").removesuffix("'>")
    if kind.startswith("typing.Literal"):
        return kind.removeprefix("typing.Literal[").removesuffix("]").replace(", ", " or ")
    return {
        "NoneType": "null",
        "dict": "a mapping, such as {a: b}",
        "collections.abc.Sequence": "a list, such as [a,b]",
        "collections.abc.Iterable": "a list, such as [a,b]",
        "list": "a list, such as [a,b]",
        "tuple": "a list, such as [a,b]",
    }.get(kind, kind)


def _unknown_option(option: str, known: Sequence[str]) -> str:
    head, _, rest = option.partition(".")
    if rest and head in known:
        name = rest.split(".")[0]
        return f"{head} has no option {name!r}{_hint(name, _option_names(head))}"
    if not rest and head in known:
        return f"{head} is a word, and no option: leave out --{head}="
    return f"there is no option {option!r}{meant(head, known)}"


def _option_names(key: str) -> set[str]:
    """Names of the options that a key may have, whichever of its parts is chosen; none if they are not known."""
    if key == "trainer":
        return {*index.trainer_options()}
    slot = slot_of(key)
    if slot:
        return {name for part in index.parts(slot).values() for name in index.options(part) or {}}
    return {name for names in _classes(key).values() for name in names}


def _classes(key: str) -> dict[str, list[str]]:
    """The classes of the library that fills a key, such as torch's optimizers, with the names of their options."""
    library = sys.modules.get(LIBRARIES.get(key.split(".")[-1], ""))
    made = {name: getattr(library, name) for name in getattr(library, "__all__", [])}
    return {name: [*signature(one).parameters] for name, one in made.items() if isinstance(one, type)}


def _hint(name: str, known: Iterable[str]) -> str:
    close = [other for other in _close(name, known) if other != name]
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _close(name: str, known: Iterable[str]) -> list[str]:
    """At most three close names, ignoring case; else those that contain the name."""
    short = {other.replace("-", "_").lower(): other for other in known}
    wanted = name.replace("-", "_").lower()
    found = get_close_matches(wanted, short, 3) or [other for other in short if len(wanted) > 2 and wanted in other][:3]
    return [short[other] for other in found]


def _is_timms(name: str) -> bool:
    if not re.search(r"\d", name):
        return False
    import timm  # late, for a mistake alone

    return bool(timm.is_model(name))
