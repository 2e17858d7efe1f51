"""The folder of a run: the one that the user names, that of a checkpoint, that of a SLURM job, or a new one.

A command that goes on by itself, with ``--ckpt_path=last`` or in a SLURM job that starts again, finds its checkpoint
here.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from yaml import YAMLError

from ferlightning.bounded_yaml import load
from ferlightning.cli.words import options, values
from ferlightning.errors import FerlError
from ferlightning.evaluation.curves import read_curves

LAST = "last"
"""In place of the path of a checkpoint: the last of the run folder, if it has one."""
RUN_FOLDER = "FERL_RUN_FOLDER"
"""Tells the processes that a launcher starts which folder the first one chose."""
LONGEST = 60
"""Letters of what a report's folder is called after."""
RANKS = ("LOCAL_RANK", "RANK", "NODE_RANK", "SLURM_PROCID")


def is_first() -> bool:
    """Whether this process was started by a person, not as another process of the same run."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def run_of(checkpoint: str | Path) -> Path | None:
    """The run folder that a checkpoint lies in, if there is one."""
    # A checkpoint may itself be a link into a store, as git-annex and DVC make them.
    for depth, folder in enumerate((Path(checkpoint).parent.resolve() / "a").parents[:3]):
        if (folder / "config.yaml").is_file() and (depth == 1 or (folder / "checkpoints").is_dir()):
            return folder
    return None


def go_on(args: Sequence[str]) -> list[str] | None:
    """The words of a command that resumes by itself, with the path of its checkpoint; None for any other command.

    Raises:
        FerlError: the last checkpoint is to be tested, and there is none.
    """
    asked = next(reversed(values(args, "ckpt_path")), None)
    if asked != LAST and (asked or args[0] != "fit" or not _restarted()):
        return None
    words = _without_checkpoint(args)
    chosen = None if is_first() else os.environ.get(RUN_FOLDER)
    named = next(reversed(values(args, "trainer.default_root_dir")), chosen)
    if named is None and (job := _job(words)) is not None:
        named = str(_runs(words) / job)
    which = "name|config|data" if args[0] == "fit" else "name|config"
    of_all = asked == LAST and not any(re.match(rf"--({which})\b", word) for word in words)
    runs = Path("runs").glob("*/*") if of_all else _runs(words).glob("*")
    folders = [Path(named)] if named is not None else [path for path in runs if not path.is_symlink()]
    found = [path for folder in folders if (path := last_checkpoint(folder))]
    if found:
        newest = max(found, key=lambda path: path.stat().st_mtime)
        if is_first():
            print(f"Going on from {newest}", flush=True)
        return [*words, f"--ckpt_path={newest}"]
    if args[0] != "fit":
        raise FerlError(f"--ckpt_path={LAST}: there is no checkpoint in {named or _runs(words)}; give the path of one")
    return words


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint of a whole epoch, from which a run resumes exactly; else the one left when SLURM ended it."""
    newest = sorted(folder.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
    hpc = sorted(folder.glob("hpc_ckpt_*.ckpt"), key=lambda path: path.stat().st_mtime)  # as Lightning names it
    last = folder / "checkpoints/last.ckpt"
    if last.is_file():
        return last
    return next(reversed(hpc if _in_first_epoch(folder) else newest or hpc), None)


def _in_first_epoch(folder: Path) -> bool:
    """Whether a run has logged no epoch after the first, and made no report: its best checkpoint may be of a part."""
    epochs = {epoch for values in read_curves(folder).values() for epoch in values}
    return epochs == {0} and not any(folder.glob("report*"))


def without_added_lists(saved: Mapping[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """A saved configuration without the lists that the words of the same command are about to add to again."""
    kept = dict(saved)
    for name in [name for name, adds, _ in options(args) if adds]:
        node: Any = kept
        *above, last = name.split(".")
        for key in above:
            node = node.get(key) if isinstance(node, dict) else None
            node = node.get("init_args", node) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(last, None)
    return kept


def choose(args: Sequence[str], checkpoint: str | None) -> tuple[Path, bool]:
    """Choose the folder of a run, and say whether it was made; processes that start together get one each.

    Raises:
        FerlError: the folder that is named holds a run, or several processes would choose one each.
    """
    if named := next(reversed(values(args, "trainer.default_root_dir")), None):
        starts = args[0] == "fit" and not checkpoint and is_first()
        if starts and (begun := last_checkpoint(Path(named))):  # none if it was killed before its first epoch ended
            raise FerlError(
                f"--trainer.default_root_dir: {named} holds a run already; choose another folder, or go on with that "
                f"run by --ckpt_path={begun}, or by --ckpt_path={LAST}, which starts one, too"
            )
        return Path(named).resolve(), False
    if checkpoint and (run := run_of(checkpoint)):
        return run, False
    runs, job = _runs(args, checkpoint), _job(_without_checkpoint(args)) if args[0] == "fit" else None
    if job is not None and (_restarted() or not is_first()):
        return runs / job, False
    if not is_first() or os.environ.get("WORLD_SIZE", "1") != "1":  # the first stops, too: it would wait for the others
        if RUN_FOLDER not in os.environ:
            raise FerlError(
                "several processes were started from outside, so each would choose a run folder of its own: give "
                "them one with --trainer.default_root_dir"
            )
        return Path(os.environ[RUN_FOLDER]), False
    folder = _new(runs, job or datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    os.environ[RUN_FOLDER] = str(folder)
    return folder, True


def other_than_saved(args: Sequence[str], saved: Mapping[str, Any]) -> str:
    """What the words say of data and model that the run's configuration does not, as the end of a folder's name."""
    told = []
    for name, _, text in options(args):
        *_, last = name.split(".")
        if name.split(".")[0] not in ("data", "model") or last in ("workers", "batch_size") or text is None:
            continue
        node: Any = saved
        for key in name.split("."):
            node = node.get("init_args", node) if isinstance(node, dict) else None
            node = node.get(key) if isinstance(node, dict) else None
        before = node["class_path"].rpartition(".")[2] if isinstance(node, dict) and "class_path" in node else node
        value = text if last in ("root", "data", "pattern") else _value(text)
        if value != before:
            plain = isinstance(value, str) and "=" not in text and last != "pattern"
            told.append(re.split(r"[/\\.]", text.rstrip("/"))[-1] if plain else f"{last}-{text}")
    return re.sub(r"[^\w+-]+", "-", "_".join(told))[:LONGEST].strip("-")


def _value(text: str) -> Any:
    try:
        return load(text)
    except (YAMLError, OverflowError):  # text that only looks like a list or an alias
        return text


def link_latest(folder: Path) -> None:
    """Point the link ``latest`` beside a run folder to it."""
    link = folder.with_name("latest")
    with suppress(OSError):  # such as where a person has to be allowed to make links
        if link.is_symlink() or not link.exists():
            temporary = folder.with_name(f".latest.{os.getpid()}")
            temporary.symlink_to(folder.name)
            temporary.replace(link)


def remove_if_empty(folder: Path) -> None:
    """Remove the empty run folder of a command that failed, and the folders above that were made for it."""
    for made in (folder, folder.parent, folder.parent.parent):
        try:
            made.rmdir()
        except OSError:  # not empty
            return


def _new(runs: Path, name: str) -> Path:
    """Make a new folder; another process may be making one of the same name."""
    numbers = count()
    folder = runs / name
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.exists():  # a folder above it is a file
                raise
            folder = runs / f"{name}_{next(numbers) + 1}"
        except FileNotFoundError:  # another process took an empty folder above it away
            continue
        else:
            return folder


def _runs(args: Sequence[str], checkpoint: str | None = None) -> Path:
    """The folder of the runs of a configuration."""
    name = next(reversed(values(args, "name")), None)
    if name is not None and (name in ("", "..") or Path(name).name != name):
        raise FerlError(f"--name is {name!r}; give the name of a folder in runs/, without slashes")
    configs = [value for value in values(args, "config", "c") if not value.startswith("{")]
    # Of all of them, names would be long; a plug-in's is config.yaml, in a folder that says more.
    stems = "+".join(_stem(Path(value)) for value in configs[:2])
    return Path("runs", name or stems or Path(checkpoint or "default").stem).resolve()


def _stem(config: Path) -> str:
    folder = config.resolve().parent
    if (folder / "checkpoints").is_dir():  # a run, which is called by its time
        folder = folder.parent
    return config.stem if config.stem != "config" else folder.name or config.stem


def slurm_job() -> str | None:
    """The number of the SLURM job that this is, and of the task if it is one of an array; None in none."""
    if "SLURM_JOB_ID" not in os.environ or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return "_".join((os.environ["SLURM_ARRAY_JOB_ID"], os.environ.get("SLURM_ARRAY_TASK_ID", "")))
    return os.environ["SLURM_JOB_ID"]


def _job(args: Sequence[str]) -> str | None:
    """What a run is called within a SLURM job, which may have several; the same when the job starts again."""
    job = slurm_job()
    return job and f"slurm-{job}-{hashlib.sha256(chr(0).join(args).encode()).hexdigest()[:6]}"


def _restarted() -> bool:
    return os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def _without_checkpoint(args: Sequence[str]) -> list[str]:
    words = list(args)
    for i in reversed(range(len(words))):
        if words[i].startswith("--ckpt_path="):
            del words[i]
        elif words[i] == "--ckpt_path":
            del words[i : i + 2]
    return words
