"""``ferl new plugin NAME --part PART``: a small package with a part of one's own, its tests, and what trains it."""

import re
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from string import Template
from typing import Literal

from ferlightning import __version__
from ferlightning.cli import index
from ferlightning.errors import FerlError
from ferlightning.files import replacing

TEMPLATES = Path(__file__).parent / "templates"
CHOSEN = {
    "backbone": "model:\n  backbone:\n    class_path: {path}",
    "restorer": "model:\n  restorer:\n    class_path: {path}",
    "sequence": "model:\n  sequence:\n    class_path: {path}",
    "attention": "model:\n  attention:\n    class_path: {path}",
    "head": "model:\n  head:\n    class_path: {path}",
    "loss": "model:\n  losses:\n    - class_path: {path}",
    "callback": "trainer:\n  callbacks+:\n    - class_path: {path}",
    "data": "data:\n  class_path: {path}\n  init_args: {{ root: faces.npz }} # images, labels",
}
"""What a configuration says to use the part, by kind."""
SLOTS = {"sequence": "sequence, attention", "attention": "sequence, attention"}


def plugin(
    name: str,
    part: Literal["backbone", "attention", "sequence", "head", "loss", "data", "restorer", "callback"] = "backbone",
) -> None:
    """Write a package with a part of your own: code, configuration, tests, entry point and a page on how to go on.

    Args:
        name: of the folder and the package, such as ``happy_net``, whose part is called ``HappyNet``.
        part: which kind.
    """
    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", module):
        raise FerlError(f"ferl new plugin: {name!r} is no name for a package; use small letters, digits and _")
    made = "".join(word.capitalize() for word in module.split("_"))
    code = (TEMPLATES / f"{part}.py.txt").read_text("utf-8")
    imported = re.findall(r"\w+", " ".join(re.findall(r"^(?:from|import) .*", code, re.MULTILINE)))
    if iskeyword(module) or iskeyword(made) or made in imported:
        word = module if iskeyword(module) else made
        raise FerlError(
            f"ferl new plugin: {word} means something else in Python or the part's code; choose another name"
        )
    known = {name.lower(): name for name in index.parts(SLOTS.get(part, part))}
    if Path(name).exists() or Path(name).is_symlink():
        raise FerlError(f"ferl new plugin: {name} is there already; choose another name")
    if find_spec(module) is not None or made.lower() in known:
        what = f"the part {known[made.lower()]}" if made.lower() in known else f"the package {module}"
        raise FerlError(f"ferl new plugin: there is {what} already; choose another name")
    draw = f"python tests/test_{module}.py" if part == "data" else ""
    chosen = {
        "data": f"--data={made} --data.root=faces.npz",
        "loss": f"FACES --model.losses=[{made}]",
        "callback": f"FACES --trainer.callbacks+={made}",
    }
    words = {
        "name": name, "module": module, "part": part, "made": made, "version": __version__,
        "config": CHOSEN[part].format(path=f"{module}.{made}"),
        "draw": draw and f"{draw}  # draws faces.npz, for the next line\n",
        "option": chosen.get(part, f"FACES --model.{part}={made}"),
        "check": f"check_{'stage' if part in SLOTS else part}",
    }  # fmt: skip
    with replacing(Path(name)) as folder:
        for template, file in {
            "pyproject.toml": "pyproject.toml", "README.md": "README.md", "config.yaml": "config.yaml",
            "init.py": f"{module}/__init__.py", f"{part}.py": f"{module}/{part}.py",
            f"test_{part if part in ('data', 'callback') else 'part'}.py": f"tests/test_{module}.py",
        }.items():  # fmt: skip
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            text = Template((TEMPLATES / f"{template}.txt").read_text("utf-8")).substitute(words)
            path.write_text(text, encoding="utf-8")
        (folder / module / "py.typed").touch()
    print(f"Written: {name}/{module}/{part}.py, with its tests and a configuration. Next:")
    print(f"  cd {name} && pip install -e '.[dev]' && pytest")
    print(f"  {draw + ' && ' if draw else ''}ferl fit --config quickstart --config config.yaml")
