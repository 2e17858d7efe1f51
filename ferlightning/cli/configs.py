"""Configurations: found by short name, such as ``quickstart`` or ``models/cnn``, and read; suites and sweeps alike."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from ferlightning.bounded_yaml import load
from ferlightning.errors import FerlError

PACKAGE = Path(__file__).parents[1]
CONFIGS, SUITES, SWEEPS = "configs", "benchmarks/suites", "configs/sweeps"


def find(name: str, folder: str, what: str) -> str:
    """The path of a file that the user names; a file in the working folder comes before one of ours.

    Args:
        name: a path, or the name of one of our files, such as ``quickstart`` or ``configs/quickstart.yaml``.
        folder: ``CONFIGS``, ``SUITES`` or ``SWEEPS``.
        what: kind of file, for the message.

    Raises:
        FerlError: there is no such file.
    """
    if Path(name).is_file():
        return name
    ours = shipped(folder)
    short = name.removeprefix("./").removeprefix(f"{folder}/").removesuffix(".yaml")
    if short in ours:
        return str(ours[short])
    tails = {path.split("/")[-1]: path for path in ours}
    close = [*get_close_matches(short, ours, 3), *(tails[tail] for tail in get_close_matches(short, tails, 3))]
    top = [path for path in ours if "/" not in path]
    if "," in name and what == "--config":
        raise FerlError(f"--config: there is no file {name}; several are given one by one, --config A --config B")
    hint = f"; did you mean {' or '.join(dict.fromkeys(close))}?" if close else f". Ours are {', '.join(top or ours)}"
    raise FerlError(f"{what}: there is no file {name}{hint}")


def expand(args: Sequence[str]) -> list[str]:
    """Arguments with the path of each configuration in place of its short name."""
    expanded = list(args)
    for i, word in enumerate(args):
        option, _, value = word.partition("=")
        if option in ("--config", "-c") and value:
            expanded[i] = f"--config={find(value, CONFIGS, '--config')}"
        elif word in ("--config", "-c") and i + 1 < len(args):
            expanded[i + 1] = find(args[i + 1], CONFIGS, "--config")
    return expanded


def shipped(folder: str) -> dict[str, Path]:
    """Our files in a folder and below it by short name, from the checkout, or from the wheel, which has them inside."""
    root = PACKAGE.parent / folder
    if not root.is_dir():
        root = PACKAGE / folder.removeprefix("benchmarks/")
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def read(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        FerlError: the file cannot be read, is no YAML, is empty, or is too large or deep.
    """
    try:
        text = path.read_text("utf-8")
        values = load(text)
    except OSError as error:
        raise FerlError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise FerlError(f"{path} is not UTF-8, byte {error.start}; save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        if "python/" in str(error.problem):
            raise FerlError(
                f"{path}, line {line}: tags such as !!python/tuple are not read, which could run code: write lists as "
                "[8, 16], and classes by class_path"
            ) from None
        raise FerlError(f"{path}, line {line}: {error.problem}; this is not YAML") from None
    except yaml.YAMLError as error:
        raise FerlError(f"{path}: {error}; this is not YAML") from None
    except OverflowError as error:
        raise FerlError(f"{path}: {error}") from None
    if values is None:
        raise FerlError(f"{path} is empty; write options into it, or leave it out")
    if not isinstance(values, dict):
        raise FerlError(f"{path} holds no options; they are written as `key: value`, such as `trainer:`")
    return {str(key): value for key, value in values.items()}
