"""``ferl export``."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import yaml
from torch import Tensor

from ferlightning.checkpoint import checkpoint_of, digest
from ferlightning.contracts.modules import not_exported
from ferlightning.data.datamodule import FaceData
from ferlightning.errors import FerlError
from ferlightning.export.card import refuse_card, write_card
from ferlightning.export.deployed import deployed, read_members
from ferlightning.export.int8 import compare, quantise, training_inputs
from ferlightning.export.pruning import prune as pruned
from ferlightning.export.traced import write_onnx, write_torch
from ferlightning.export.web import PageDetector, refuse_folder, write_page
from ferlightning.files import replacing
from ferlightning.models.files import ensemble_of, save_weights, weights_of
from ferlightning.weights import REGISTRY, find_file

UNUSED = {
    "detector": "but a page, --format=web",
    "detector_path": "but a page, --format=web",
    "ort_dir": "but a page, --format=web",
    "data": "but --int8",
    "clips": "of a safetensors file, which takes both clips and stills",
    "mirror": "of a safetensors file, which has weights alone",
    "fp16": "of a torch file, whose weights are in single precision",
}
ENDS = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}


def export(
    model: str | list[str],
    out: str | None = None,
    format: Literal["onnx", "torch", "safetensors", "web"] = "onnx",
    clips: bool | None = None,
    mirror: bool = False,
    fp16: bool = False,
    int8: bool = False,
    prune: float = 0.0,
    data: FaceData | None = None,
    trust: bool = False,
    detector: PageDetector = "yunet",
    detector_path: str | None = None,
    ort_dir: str | None = None,
) -> Path:
    """Write a trained model as a file: ONNX runs without ferlightning, images as bytes in, probabilities out.

    Args:
        model: a run folder, of which the best checkpoint is taken, a checkpoint, its safetensors file, or a name of
            shipped weights; of several, [A,B], an ensemble is made. For web, also an ONNX file that was exported.
        out: the file or folder that is written; null puts it beside the checkpoint, or into the working folder, such as
            best.onnx, best-int8.onnx.
        format: onnx for ONNX Runtime; torch for ``torch.export.load``; safetensors for ``ferlightning.load``; web for
            a page that recognises faces in the browser, a folder.
        clips: take clips of any length, with a mask of their real frames, or stills; null: whichever it was trained
            on.
        mirror: take the mean over mirror images, too.
        fp16: round the weights to half precision, which halves the file; it computes in single precision still.
        int8: compute in 8-bit integers where it pays: a quarter of the size, and faster on most processors. What it
            changes, and how fast it is on this one, is measured on training images.
        prune: share of the multiply-adds that is taken away, in [0, 1), by leaving channels of the backbone out. It
            must then be trained again: a safetensors file comes with a configuration that does so.
        data: the training data, for ``int8``; null for those that the run names.
        trust: build parts of packages that are neither ours nor installed plug-ins; this runs their code.
        detector: what finds the faces on a page; none where a picture is a face that was cut out.
        detector_path: YuNet's ONNX file, for a page; it is fetched if there is none.
        ort_dir: the npm package onnxruntime-web, unpacked, for a page; npm fetches it if there is none.

    Returns:
        What was written: ``out``, with an ending if it had none.
    """
    sources = [model] if isinstance(model, str) else model
    if not sources:
        raise FerlError("model: there is none: name a run folder, a checkpoint or shipped weights")
    if format not in (*ENDS, "web"):
        raise FerlError(f"format is {format!r}, expected {', '.join(ENDS)} or web")
    page = {"detector": detector != "yunet", "detector_path": detector_path, "ort_dir": ort_dir}
    for name, given, needed in (
        *((name, given, format == "web") for name, given in page.items()),
        ("data", data, int8),
        ("clips", clips is not None, format != "safetensors"),
        ("mirror", mirror, format != "safetensors"),
        ("fp16", fp16, format != "torch"),
    ):
        if given and not needed:
            raise FerlError(f"{name}: it changes nothing {UNUSED[name]}: leave it out")
    path = Path(out) if out else _place(sources, "pt2" if format == "torch" else format, fp16, int8)
    if format != "web":
        if path.exists() and not path.is_file():
            raise FerlError(f"out: {path} is a folder or device: give the name of a file")
        path = path if path.suffix else path.with_suffix(ENDS[format])
    card = path.with_name(f"{path.name}.md")
    refuse_card(card)
    ends = ".pt2" if format == "web" and len(sources) == 1 else (".onnx", ".pt2")  # a page is made of an ONNX file, too
    if exported := next((source for source in sources if source.endswith(ends)), None):
        raise FerlError(f"{exported} is an export already: give the run folder or the checkpoint that it is of")
    if format == "web":
        refuse_folder(path)
        with TemporaryDirectory() as work:
            file, said = _exported(sources, clips is not None or mirror or fp16 or int8 or prune != 0), ""
            header: dict[str, Any] | None = None  # of an export, which has a card of its own
            if file is None:
                file = Path(work, "model.onnx")
                measured, header = _written(sources, file, "onnx", clips, mirror, fp16, int8, prune, data, trust)
                said = _sentence(measured)
            elif not sources[0].endswith(".onnx"):
                header = _weights(read_members(sources))[1]
            write_page(file, path, _name(sources), detector, detector_path, ort_dir)
        sizes = [file.stat().st_size for file in path.iterdir()]
        if header is not None:
            write_card(card, path, sources, header, f"{sum(sizes) / 1e6:.2f} MB.{said}", prune > 0)
        print(
            f"{path}: {len(sizes)} files, {sum(sizes) / 1e6:.2f} MB.{said} To look at it: python -m http.server --bind "
            f"127.0.0.1 --directory {shlex.quote(str(path))}, and open http://localhost:8000. Elsewhere serve it by "
            "https, since browsers give the camera to https and localhost only"
        )
        return path
    end = ENDS[format]
    if path.resolve() in [checkpoint_of(source).resolve() for source in sources]:
        raise FerlError(f"out: {path} is read, and would be replaced: give another name")
    if path.suffix != end:
        meant = next((f"; did you mean --format={name}?" for name, x in ENDS.items() if x == path.suffix), "")
        raise FerlError(f"out: {path} would be a file of --format={format}, whose names end in {end}{meant}")
    if int8 and format != "onnx":
        raise FerlError("int8: there is a form in 8-bit integers for ONNX Runtime alone: leave --format out")
    said, header = _written(sources, path, format, clips, mirror, fp16, int8, prune, data, trust)
    size = f"{path.stat().st_size / 1e6:.2f} MB"
    write_card(card, path, sources, header, f"{size}.{_sentence(said)}", prune > 0)
    print(f"{path}: {size}{'; ' if said else ''}{said}. Its model card: {card}")
    if prune and format == "safetensors" and len(sources) == 1:
        config = path.with_suffix(".yaml")
        options = {"backbone": header["network"]["backbone"], "init_from": str(path)}
        with replacing(config) as temporary:
            temporary.write_text(yaml.safe_dump({"model": {"init_args": options}}, sort_keys=False))
        print(f"Train it again, by the configuration that it was trained by and this: --config {config}")
    return path


def _written(
    sources: Sequence[str],
    path: Path,
    format: str,
    clips: bool | None,
    mirror: bool,
    fp16: bool,
    int8: bool,
    prune: float,
    data: FaceData | None,
    trust: bool,
) -> tuple[str, dict[str, Any]]:
    """Write the file of a model.

    Returns:
        What was measured of it, and the header of its weights.
    """
    members, said = read_members(sources), []
    for member in members.values() if fp16 else ():
        whole = member["state_dict"]
        member["state_dict"] = {name: _halved(x).to(x.dtype) for name, x in whole.items()}
        if all(x.equal(whole[name]) for name, x in member["state_dict"].items()):
            said = ["its weights were in half precision already"]
    for name in members if prune else ():
        members[name], gone = pruned(members[name], name, prune, trust)
        said.append(gone)
    state, header = _weights(members)
    if format == "safetensors":
        save_weights(path, {name: _halved(x) for name, x in state.items()} if fp16 else state, header)
        return "; ".join(said), header
    found, known = deployed(members, header, clips, mirror, trust)
    if reason := not_exported(found):
        raise FerlError(f"{' and '.join(sources)} cannot be exported, but with --format=safetensors. {reason}")
    known |= {"weights": digest(state), "int8": int8}
    if not int8:
        checked = (write_torch if format == "torch" else write_onnx)(found, known, path)
        said.append(
            f"probabilities differ from torch's by {checked.gap:.1e} at most; "
            f"{1e3 * checked.seconds:.2f} ms of CPU for one {'clip of five frames' if found.clips else 'image'}, "
            f"torch itself {1e3 * checked.torch_seconds:.2f}"
        )
    elif data is None:
        raise FerlError(
            f"int8 needs the images that the network was trained on, which {' and '.join(sources)} does not name: give "
            "them by --data=FER2013 --data.root=FOLDER"
        )
    else:
        batches = training_inputs(data, known["input"])
        with TemporaryDirectory() as folder:
            floats = Path(folder, "floats.onnx")
            write_onnx(found, known, floats)
            quantise(floats, path, batches)
            measured = compare(floats, path, batches)
        said.append(
            f"on {sum(len(batch['image']) for batch in batches)} training images a probability changes by "
            f"{measured['change']:.4f} in the mean and {measured['same']:.1%} keep their class. Against floats on this "
            f"processor and one thread it is {measured['speedup_1']:.2f} times as fast at batch 1, "
            f"{measured['speedup_64']:.2f} at 64"
        )
    return "; ".join(said), header


def _sentence(said: str) -> str:
    """What was measured as a sentence after another one; empty if nothing was."""
    return f" {said[0].upper()}{said[1:]}." if said else ""


def _weights(members: dict[str, dict[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return weights_of(*members.values()) if len(members) == 1 else ensemble_of(members)


def _halved(x: Tensor) -> Tensor:
    """In half precision, unless these are no fractions or are beyond its range."""
    return x.half() if x.is_floating_point() and x.half().isfinite().all() else x


def _exported(sources: Sequence[str], changed: bool) -> Path | None:
    """The ONNX file that a model is, or has, already."""
    if len(sources) > 1:
        return None
    (source,) = sources
    if not source.endswith(".onnx"):
        entry = REGISTRY.get(f"{source}.onnx")
        return None if entry is None or changed else find_file(entry, source)
    if changed:
        raise FerlError(f"{source} is exported already: clips, mirror, fp16 and int8 are told as it is written")
    if not Path(source).is_file():
        raise FerlError(f"there is no model {source}")
    return Path(source)


def _name(sources: Sequence[str]) -> str:
    """What a model is called: by its file, or by its run where that is called as all are."""
    place = _place(sources, "web")
    known = place.parent.name == "checkpoints" and len(sources) == 1
    return "/".join(place.resolve().parts[-4:-2]) if known else place.stem


def _place(sources: Sequence[str], end: str, fp16: bool = False, int8: bool = False) -> Path:
    """Beside the checkpoint; of a name or of several, in the working folder. Each precision has a name of its own."""
    if len(sources) > 1:
        path = Path("ensemble")
    else:
        (source,) = sources
        path = Path(Path(source).name) if source in REGISTRY or source.startswith("hf:") else checkpoint_of(source)
    return path.with_name(f"{path.stem}{'-fp16' if fp16 else ''}{'-int8' if int8 else ''}.{end}")
