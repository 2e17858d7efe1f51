"""Self-contained checkpoints: what is written beside the weights, and how a network is rebuilt from it.

A checkpoint, and the safetensors file beside it, has a header of plain values: the format, the network's parts and
their arguments, how it was trained, and what images it expects. Nothing in it is run: a class that it names is built
only if it is a part of ours or of an installed plug-in.
"""

import hashlib
import json
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.serialization import safe_globals

from ferlightning import __version__
from ferlightning.bounded_yaml import size
from ferlightning.described import rebuild, trusted_packages
from ferlightning.errors import NONE_YET, FerlError, printable
from ferlightning.forms import ANY, IMAGES, odd_places
from ferlightning.models.network import Network, NetworkEnsemble
from ferlightning.models.sized import at_most_of
from ferlightning.plugins import installed
from ferlightning.weights import find_weights, meant_weights

FORMAT = 1
HEADER = "ferlightning"
"""Key of the header in a checkpoint, and in the metadata of a safetensors file."""
CONFIG = "config"
"""Key of the resolved configuration in a checkpoint of the command line."""
ALONE = "Weights alone are given by --model.init_from, beside the network that they are of: --model.backbone=..."
ENDS = ("weight", "bias")
"""The tensors of a linear layer, such as an auxiliary head."""
VALUES = 1_000_000
"""The most values in a checkpoint, one that is met twice counted twice; a tensor is one."""
NOT_FETCHED = {
    rb"version https://git-lfs": "is a pointer of Git LFS: fetch the file itself with git lfs pull",
    rb"\s*<(!doctype|html|\?xml)": "is a web page: the download failed. Fetch it again",
}
"""How files begin that stand in the place of weights."""
LIGHTNING = {"pytorch-lightning_version": "2.6.0", "epoch": 0, "global_step": 0}
"""What Lightning looks for in a checkpoint."""
FRAMES = torch.empty(0, dtype=torch.int64)
BESIDE = (
    *(f"numpy.{core}.multiarray.{made}" for core in ("core", "_core") for made in ("scalar", "_reconstruct")),
    "numpy.dtype", "numpy.ndarray", "argparse.Namespace",
    *(f"pathlib.{where}{kind}Path" for where in ("", "_local.")
      for kind in ("Posix", "Windows", "PurePosix", "PureWindows")),
)  # fmt: skip
"""What other code often saves beside its tensors, such as ``{"best_acc": np.float64(…), "args": Namespace(…)}``."""
FORM: dict[str, Any] = {
    "format": int, "network": {"class_names": [str]}, "training": dict, "plugins": {ANY: str}, "input": IMAGES,
    "views": {ANY: {"class_names": [str], "head": str}},
}  # fmt: skip
"""Of a header. The network's other options are checked as it is built."""


class NotRead:
    """Stands for a value of ``BESIDE``, which nobody needs: so none of their code runs on what a file says."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# --- the header -------------------------------------------------------------------------------------------------------


def header_of(**sections: Any) -> dict[str, Any]:
    """The header of a checkpoint: plain sections, the format, the version that wrote it, and those of plug-ins."""
    text, plugins = json.dumps(sections), {}
    for entry in installed():
        package = entry.value.partition(":")[0].partition(".")[0]
        if entry.dist and f'"{package}.' in text:
            plugins[package] = f"{entry.dist.name}=={entry.dist.version}"
    return {"format": FORMAT, "version": __version__, **({"plugins": plugins} if plugins else {}), **sections}


def require_plugins(header: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a file that needs a plug-in which is not installed.

    Raises:
        FerlError: it does; the message names the package and the version that wrote the file.
    """
    plugins = header.get("plugins", {})
    for package, wanted in plugins.items() if isinstance(plugins, dict) else ():
        if package not in trusted_packages():
            name = re.sub(r"[^\w.+!=-]", "?", str(wanted))[:200]  # it becomes a part of a command
            raise FerlError(
                f"{path} needs the plug-in {name}, which is not installed: pip install '{name}', or, if it is a folder "
                "of yours, pip install -e FOLDER"
            )


# --- files ------------------------------------------------------------------------------------------------------------


def checkpoint_of(source: str | Path) -> Path:
    """Return the checkpoint that a path means: of a run folder, its best one."""
    return Path(source, "checkpoints", "best.ckpt") if Path(source).is_dir() else Path(source)


def read_checkpoint(path: str | Path, device: Any = "cpu") -> dict[str, Any]:
    """Read what Lightning stored: ``state_dict`` and more. Nothing in the file is run.

    Args:
        path: of the file.
        device: where the tensors go; ``meta`` leaves their values out.

    Raises:
        FerlError: there is no such file, or it is damaged, or something else.
    """
    return _checked(_read(path, device), path)


def _checked(stored: dict[str, Any], path: str | Path) -> dict[str, Any]:
    state = stored.get("state_dict")
    if not isinstance(state, Mapping):
        raise FerlError(f"{path} is no checkpoint: it has no state_dict. {ALONE}")
    kinds = {"callbacks": dict, "training_frames": Tensor, "epoch": int, "global_step": int}
    named = {name: x for name, x in state.items() if not str(name).endswith("_extra_state")}
    odd = [f"state_dict {name}" for name, x in named.items() if not isinstance(name, str) or not isinstance(x, Tensor)]
    odd += [name for name, kind in kinds.items() if not isinstance(stored.get(name, kind()), kind)]
    odd += [] if odd or stored.get("training_frames", FRAMES).dtype == FRAMES.dtype else ["training_frames"]
    if odd:
        raise FerlError(f"{path} is damaged, or was written by hand: {odd[0]} is of the wrong type")
    return stored


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a file: a checkpoint, safetensors, or a state dict that other code has saved.

    Raises:
        FerlError: there is no such file, it is damaged, or it has no tensors.
    """
    path = find_weights(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)[0]
    return _tensors_in(_read(path, "cpu"), path)


def _tensors_in(stored: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    while inner := _inner(stored):
        stored = inner
    tensors = {str(name).removeprefix("module."): x for name, x in stored.items() if isinstance(x, Tensor)}
    if not tensors:
        keys = ", ".join(map(str, list(stored)[:5])) or "none"
        raise FerlError(
            f"{path} holds no tensors by name: its keys are {keys}. Save the state_dict of one network alone"
        )
    return tensors


def _inner(stored: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The mapping in which the tensors of a network are: one of a usual name, or the only one beside an optimiser's."""
    keys = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "checkpoint")
    usual = next((stored[key] for key in keys if isinstance(stored.get(key), Mapping)), None)
    if usual is not None or any(isinstance(x, Tensor) for x in stored.values()):
        return usual
    others = [x for name, x in stored.items() if isinstance(x, Mapping) and x and "optim" not in str(name).lower()]
    return others[0] if len(others) == 1 else None


class Start(NamedTuple):
    """What a file has to start a training from."""

    tensors: dict[str, Tensor]
    class_names: list[str]
    """The classes that it tells apart; empty if it does not say."""
    training_frames: Tensor | None
    """Hashes of the frames that it was trained on; None if neither it nor a checkpoint beside it says."""


def read_start(path: str | Path, class_names: Sequence[str]) -> Start:
    """Read a file as a start for these classes, with the head for just them if there is one.

    Errors are those of ``read_state`` and ``read_header``.
    """
    path = find_weights(path)
    stored = _read(path, "cpu")
    header = stored.get(HEADER)
    if not isinstance(header, dict) or "network" not in header:
        # The names of other code's safetensors are its own.
        foreign = read_state(path) if path.suffix == ".safetensors" else _tensors_in(stored, path)
        return Start(foreign, [], None)
    read_header(_checked(stored, path), path)
    take_view(stored, class_names)
    return Start(stored["state_dict"], stored[HEADER]["network"]["class_names"], frames_of(stored, path))


def frames_of(stored: Mapping[str, Any], path: Path) -> Tensor | None:
    """The hashes of the frames that a model was trained on: of its checkpoint, which lies beside weights alone."""
    if path.suffix == ".safetensors" and (beside := path.with_suffix(".ckpt")).is_file():
        stored = read_checkpoint(beside)
    return stored.get("training_frames")


def _read(path: str | Path, device: Any) -> dict[str, Any]:
    path = find_weights(path)
    if not path.is_file():
        run = path.parent.parent
        if path.parts[-2:-1] == ("checkpoints",) and run.is_dir() and not any(path.parent.glob("*.ckpt")):
            begun = (run / "config.yaml").is_file()
            what = NONE_YET if begun else f"is no run folder: it has no {path.relative_to(run)}"
            raise FerlError(f"{run} {what}")
        raise FerlError(f"there is no checkpoint {path}{meant_weights(str(path))}")
    with path.open("rb") as file:
        begin = file.read(200)
    for pattern, what in NOT_FETCHED.items():
        if re.match(pattern, begin, re.IGNORECASE):
            raise FerlError(f"{path} {what}")
    if path.suffix in (".onnx", ".pt2"):
        raise FerlError(f"{path} is an export, which is run as it is: give the run folder or checkpoint that it is of")
    if path.suffix == ".safetensors":
        state, header = _read_safetensors(path, device)
        named = {name if name.startswith("views.") else f"network.{name}": x for name, x in state.items()}
        return {"state_dict": named, HEADER: header, **LIGHTNING}
    unreadable = f"{path} is no checkpoint that can be read, or is cut short; use another one"
    if not begin.startswith((b"PK", b"\x80")):  # neither a zip nor a pickle
        what = "torch.save has not written it, or its beginning is damaged" if begin else "it is empty"
        raise FerlError(f"{path} is no checkpoint: {what}. Give a state_dict of torch, or safetensors")
    try:
        if is_zipfile(path):
            with ZipFile(path) as archive:
                inside = {name.rpartition("/")[2] for name in archive.namelist()}
                if "data.pkl" not in inside or "constants.pkl" in inside:  # such as NumPy's, Keras's or TorchScript
                    raise FerlError(f"{path} is no checkpoint but a program or an archive: save the state_dict alone")
                if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                    raise FerlError(f"{path} is packed, which no checkpoint is, and may unpack to any size")
                if device != "meta" and (damaged := archive.testzip()):
                    raise FerlError(f"{path} is damaged: {damaged} in it is not what was written; use another one")
        with safe_globals([(NotRead, name) for name in BESIDE]):
            stored = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(stored, Mapping):
            raise FerlError(f"{path} holds a {type(stored).__name__}, not tensors by name: save a state_dict")
        stored = {**(LIGHTNING if "state_dict" in stored else {}), **stored}
        if size(stored, _inside, {}) > VALUES:
            raise FerlError(f"{path} holds more than {VALUES:,} values, which no checkpoint does")
        return stored
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error) and "global" in str(error).lower():
            code = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
            raise FerlError(
                f"{path} holds more than tensors and plain values{f' ({code[1]})' if code else ''}, and reading it "
                "would run code: it is no checkpoint of ours. Save its state_dict alone and use that"
            ) from error
        raise FerlError(unreadable) from error
    except FerlError:
        raise
    except Exception as error:  # the unpickler raises whatever its stack meets in a damaged file
        raise FerlError(unreadable) from error


def _inside(value: Any) -> Iterable[Any]:
    return (*value, *value.values()) if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, kept in the header of our safetensors files: the format has no checksum."""
    made = hashlib.sha256()
    for name in sorted(tensors):
        made.update(name.encode())
        made.update(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return made.hexdigest()


def _read_safetensors(path: str | Path, device: Any = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and the header, which is empty if other code wrote the file."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FerlError(f"{path} is no safetensors file that can be read: {error}") from error
    expected = header.get("sha256") if isinstance(header, dict) and device != "meta" else None
    if expected is not None and expected != digest(tensors):
        raise FerlError(f"{path} is damaged: its tensors are not those that were written; use another file")
    return {name: x.to(device) for name, x in tensors.items()}, header


def read_header(stored: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """The header of what ``read_checkpoint`` has read.

    Raises:
        FerlError: it has none that can be read, or that of a newer version.
    """
    header = stored.get(HEADER)
    if not isinstance(header, dict) or not {"network", "format"} <= header.keys():
        raise FerlError(
            f"{path} does not say how its network was built: it is no checkpoint of ferlightning, or of a whole "
            f"LightningModule of your own. {ALONE}"
        )
    header.setdefault("views", {})
    members = header.get("members", [header])
    needed = {"class_names", "head"}
    found = [*odd_places(header, FORM, "header", needed - {"head"} if "members" in header else needed)]
    found += odd_places(members, [FORM], "header.members", needed) if "members" in header else []
    for place in found:
        raise FerlError(f"{path} is damaged, or was written by hand: the {place} is of the wrong type")
    if header["format"] > FORMAT:
        raise FerlError(f"{path} is of format {header['format']}, newer than this ferlightning reads: update it")
    if not members or not all(member.get("network", {}).get("class_names") for member in (header, *members)):
        raise FerlError(f"{path} does not tell its classes: it is damaged, or was written by hand")
    for one in (header, *members):
        one["network"]["class_names"] = [printable(name) for name in one["network"]["class_names"]]
    return header


def head_of(stored: Mapping[str, Any], view: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) of an auxiliary head.

    Raises:
        FerlError: they are not there, or are those of other classes.
    """
    weight, bias = (stored["state_dict"].get(f"{view['head']}.{end}", torch.empty(0)) for end in ENDS)
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or len(bias) != len(view["class_names"]):
        raise FerlError(
            f"the checkpoint is damaged, or was written by hand: it has no head {view['head']} of its classes"
        )
    return weight, bias


def take_view(stored: dict[str, Any], class_names: Sequence[str]) -> None:
    """Replace the network's head with the auxiliary head for exactly these classes, if there is one.

    The losses of the training go with the head: they are of its classes.

    Args:
        stored: what ``read_checkpoint`` has read; it is changed.
        class_names: the K classes that are asked for.
    """
    header, state = stored.get(HEADER, {}), stored["state_dict"]
    made_of = header.get("network", {})
    gone: tuple[str, ...] = ("views.",)
    for view in header.get("views", {}).values():
        if sorted(view["class_names"]) == sorted(class_names) != sorted(made_of["class_names"]):
            stored[HEADER] = header | {"network": made_of | {"class_names": view["class_names"]}}
            for end, x in zip(ENDS, head_of(stored, view), strict=True):
                state[f"network.head.classify.{end}"] = x
            gone = ("views.", "losses.")
            break
    for name in [name for name in state if name.startswith(gone)]:
        del state[name]


def members_of(stored: dict[str, Any]) -> list[dict[str, Any]]:
    """Split the file of an ensemble into what ``read_checkpoint`` returns for each member; else return it alone."""
    members = [{HEADER: header, "state_dict": {}} for header in stored[HEADER].get("members", [])]
    for name, x in stored["state_dict"].items() if members else ():
        found = re.fullmatch(r"network\.members\.(\d{1,4})\.(.+)", name)
        if not found or int(found[1]) >= len(members):
            raise FerlError(f"the ensemble is damaged, or was written by hand: {name} is of none of its members")
        i, own = int(found[1]), found[2]
        members[i]["state_dict"][own if own.startswith("views.") else f"network.{own}"] = x
    return members or [stored]


def load(
    source: str | Path, *, view: str | Sequence[str] | None = None, trust: bool = False
) -> Network | NetworkEnsemble:
    """Rebuild a trained network from one file, on the CPU and in eval mode, for calls by hand.

    It takes images (B, T, C, H, W), or stills (B, C, H, W), in [0, 1], and returns an ``Output`` with ``logits``.
    ``ferlightning.prepare`` makes them of files and arrays, as it was trained on them.

    Args and errors are those of ``load_network``; a call with images of another shape or range raises FerlError, too.
    """
    source = getattr(source, "folder", source)  # of a Run
    if not isinstance(source, str | Path):
        raise FerlError(f"load: there is {type(source).__name__} in place of a path, a name or a run")
    network = load_network(source, view=view, trust=trust)
    network.register_forward_pre_hook(_check_images)
    return network


def _check_images(network: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if not args or torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return args
    image, *others = args
    if not isinstance(image, Tensor) or image.ndim not in (4, 5):
        found = tuple(getattr(image, "shape", ())) or type(image).__name__
        raise FerlError(f"images must be a tensor (B, C, H, W) or (B, T, C, H, W), not {found}; see prepare")
    low, high = (float(x) for x in image.aminmax())
    if not image.is_floating_point() or not (low >= 0 and high <= 1):
        raise FerlError(
            f"images must be floats in [0, 1], not {image.dtype} from {low:.4g} to {high:.4g}: divide bytes by 255, or "
            "use ferlightning.prepare"
        )
    return (image.unsqueeze(1) if image.ndim == 4 else image, *others)


def load_network(
    source: str | Path, *, view: str | Sequence[str] | None = None, trust: bool = False
) -> Network | NetworkEnsemble:
    """Rebuild a trained network from one file, on the CPU and in eval mode.

    Args:
        source: a checkpoint, a safetensors file of ours, a run folder, of which the best checkpoint is taken, or a name
            of shipped weights, such as ``ferl-small``.
        view: name of an auxiliary head, such as ``fer2013``, that takes the place of the network's own; or the classes
            that are asked for: a head that tells just these apart does so, too.
        trust: build parts of packages that are neither ours nor installed plug-ins; this runs their code.

    Raises:
        FerlError: there is no such file, it is damaged, it has no such view, or it does not say how its network was
            built.
    """
    path = checkpoint_of(source)
    return network_of(read_checkpoint(path), path, view, trust)


def network_of(
    stored: dict[str, Any], path: str | Path, view: str | Sequence[str] | None = None, trust: bool = False
) -> Network | NetworkEnsemble:
    """Rebuild the network, or the networks together, of what ``read_checkpoint`` has read, as ``load_network`` does."""
    read_header(stored, path)
    members = [build_network(member, path, view, trust) for member in members_of(stored)]
    return members[0] if "members" not in stored[HEADER] else NetworkEnsemble(members).eval()


def build_network(
    stored: dict[str, Any], path: str | Path, view: str | Sequence[str] | None = None, trust: bool = False
) -> Network:
    """Rebuild the network of what ``read_checkpoint`` has read, as ``load`` does; it is changed by a view."""
    header = read_header(stored, path)
    if isinstance(view, str):
        views = header.get("views", {})
        if view not in views:
            raise FerlError(f"{path} has no view {view!r}; it has {', '.join(views) or 'none'}")
        view = views[view]["class_names"]
    if view is not None:
        take_view(stored, view)
        header = stored[HEADER]
    if not trust:
        require_plugins(header, path)
    # First weights are drawn, and would shift the draws of a run going on.
    with torch.random.fork_rng(devices=[]), _told(f"{path}: the network that it describes cannot be built"):
        size = sum(x.untyped_storage().nbytes() for x in stored["state_dict"].values() if x.layout is torch.strided)
        with at_most_of(size):
            network = Network(**rebuild(header["network"], trust))
    with _told(f"{path}: its weights do not fit the network that it describes"):
        network.load_state_dict(network_state(stored["state_dict"]))
    network.input = header.get("input", {})
    return network.eval()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Refuse what a file says in a sentence: parts that are given wrong options raise whatever they meet."""
    try:
        yield
    except FerlError:
        raise
    except Exception as error:
        raise FerlError(f"{what}: {error}") from error


def network_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the network among those of a classifier, by their names within it."""
    prefix = "network."
    return {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
