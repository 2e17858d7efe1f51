"""Files that torch's exporter writes, for ONNX Runtime or torch: checked against the network, or not left at all."""

import io
import json
import logging
import re
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import Dim

from ferlightning.checkpoint import HEADER
from ferlightning.described import OURS
from ferlightning.errors import FerlError
from ferlightning.export.deployed import Deployed
from ferlightning.export.recurrent import with_onnx_stages
from ferlightning.files import replacing
from ferlightning.parts import GRU, LSTM
from ferlightning.runtime import SEAL, UNSEALED, open_session, seal

TOLERANCE = 1e-4
"""Largest difference of a probability from torch's. ONNX Runtime's rounding makes 1.4e-5 in a fine-tuned ResNet."""
SHAPES = ((1, 1), (7, 4), (2, 9))
"""(B, T) at which a file is checked; none is the one of the export."""


NO_NUMBERS = (
    "the network gives no numbers (NaN) on ordinary images, as after a training that diverged, or of damaged weights: "
    "choose another checkpoint"
)


class Checked(NamedTuple):
    """How an exported network compares with torch's."""

    gap: float
    """Largest difference of a probability."""
    seconds: float
    """Processor time of one image or clip, by itself."""
    torch_seconds: float


def write_onnx(model: Deployed, known: dict[str, Any], path: Path) -> Checked:
    """Write a model as an ONNX file, once ONNX Runtime gives the same probabilities as torch.

    The batch may have any size, and clips any length. Weights that half precision holds exactly are stored in it.

    Args:
        model: in eval mode.
        known: goes into the metadata, as JSON under the key ``ferlightning``.
        path: of the file.

    Raises:
        FerlError: a package is missing, a part cannot be exported, or the probabilities differ.
    """
    with quiet():
        try:
            import onnxscript.optimizer
            from onnx_ir.passes.common import ClearMetadataAndDocStringPass
        except ModuleNotFoundError as error:
            raise FerlError(f"export needs {error.name}: pip install 'ferlightning[export]'") from error
        inputs, shapes = traced_inputs(model, known)
        twin = with_onnx_stages(model)
        try:
            with torch.no_grad():  # in two steps, because the exporter alone falls back on ways that fix the batch
                traced = torch.export.export(twin, tuple(inputs.values()), dynamic_shapes=shapes, strict=False)
                program = torch.onnx.export(
                    traced, dynamo=True, optimize=False, verbose=False, dynamic_shapes=shapes,
                    input_names=[*inputs], output_names=model.outputs,
                )  # fmt: skip
        except Exception as error:
            raise FerlError(why(error, twin, "ONNX")) from error
        assert program is not None
        _halve(program.model)
        onnxscript.optimizer.optimize_ir(program.model)
        ClearMetadataAndDocStringPass()(program.model)  # where each node came from in Python
        program.model.metadata_props.update({HEADER: json.dumps(known), SEAL: UNSEALED})
        with replacing(path) as temporary:
            program.save(temporary)
            seal(temporary)
            session = open_session(temporary, threads=1)
            return check(
                lambda inputs: session.run(None, {name: x.numpy() for name, x in inputs.items()}), model, known
            )


def write_torch(model: Deployed, known: dict[str, Any], path: Path) -> Checked:
    """Write a model as a program of torch alone, once it gives the same probabilities; as ``write_onnx`` otherwise.

    ``torch.export.load(path, extra_files={"ferlightning": ""}).module()`` takes it up, without ferlightning.
    """
    if model.clips and (found := [type(x).__name__ for x in model.modules() if isinstance(x, LSTM | GRU)]):
        raise FerlError(
            f"{found[0]} over clips of any length cannot be exported to torch, whose exporter fixes the length: export "
            "to ONNX, which is the default of --format, or stills by --clips=false"
        )
    inputs, shapes = traced_inputs(model, known)
    with quiet(), torch.no_grad():
        try:
            program = torch.export.export(model, tuple(inputs.values()), dynamic_shapes=shapes, strict=False)
        except Exception as error:
            raise FerlError(why(error, model, "torch")) from error
        torch.export.save(program, written := io.BytesIO(), extra_files={HEADER: json.dumps(known)})
        with replacing(path) as temporary:
            temporary.write_bytes(written.getvalue())  # torch's own writer ends the process on a full disk
            stored = torch.export.load(written).module()
            return check(lambda inputs: [x.numpy() for x in stored(*inputs.values())], model, known)


def traced_inputs(model: Deployed, known: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inputs to trace a model with, by name, and which of their dimensions may have any size."""
    dims = {0: Dim("batch"), 1: Dim("frames")} if model.clips else {0: Dim("batch")}
    inputs = example(model, known, 3, 5)
    return inputs, dict.fromkeys(inputs, dims)


def check(run: Callable[[dict[str, Tensor]], Any], model: Deployed, known: dict[str, Any]) -> Checked:
    """Compare an exported network with the model.

    Args:
        run: gives the outputs of the exported one, as arrays.
        model: what was exported.
        known: as for ``write_onnx``.

    Raises:
        FerlError: a probability differs by more than ``TOLERANCE``, or the network does not run.
    """
    worst = 0.0
    for b, t in SHAPES:
        inputs = example(model, known, b, t)
        with torch.no_grad():
            expected = model(*inputs.values())
        where = f"of {b} clips of {t} frames" if model.clips else f"of {b} images"
        if not all(x.isfinite().all() for x in expected):
            raise FerlError(NO_NUMBERS)
        try:
            found = run(inputs)
        except Exception as error:
            raise FerlError(f"the exported network fails on a batch {where}: {str(error).splitlines()[0]}") from error
        for one, other in zip(found, expected, strict=True):
            gap = float(np.abs(np.asarray(one) - other.numpy()).max()) if one.shape == other.shape else np.inf
            if not gap <= TOLERANCE:
                raise FerlError(f"the exported network differs from torch's by {gap:.2g} on a batch {where}")
            worst = max(worst, gap)
    one = example(model, known, 1, 5)
    with torch.no_grad():
        seconds = timed([lambda: run(one), lambda: model(*one.values())], 20)
    return Checked(worst, *seconds)


def timed(runs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """The median processor time of each of some functions, in seconds, as they take turns."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, taken in zip(runs, seconds, strict=True):
            start = time.process_time()
            run()
            taken.append(time.process_time() - start)
    return [float(np.median(taken)) for taken in seconds]


def example(model: Deployed, known: dict[str, Any], b: int, t: int) -> dict[str, Tensor]:
    """Inputs by name: ``image``, and of clips ``mask``, with padding in all but the first."""
    size, channels = known["input"]["size"], known["input"]["channels"]
    draw = np.random.default_rng(b * 100 + t)
    frames = (b, t) if model.clips else (b,)
    image: NDArray[np.uint8] = draw.integers(0, 256, (*frames, channels, *size), np.uint8)
    # Blocks of other sizes and contrasts, because every network takes plain noise for the same thing.
    for i in np.ndindex(frames):
        block, low = draw.integers(2, max(size) // 2), draw.integers(0, 128)
        coarse = low + image[i][:, ::block, ::block].repeat(block, 1).repeat(block, 2) % draw.integers(16, 128)
        image[i] = coarse[:, : size[0], : size[1]]
    if not model.clips:
        return {"image": torch.from_numpy(image)}
    length = np.r_[t, draw.integers(1, t + 1, b - 1)]
    return {"image": torch.from_numpy(image), "mask": torch.from_numpy(np.arange(t) < length[:, None])}


def _halve(model: Any) -> None:
    """Store the weights that half precision holds exactly in it, followed by a cast.

    Batch norms are not folded into such weights: ONNX Runtime does that as it opens the file.
    """
    import onnx_ir as ir

    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value.numpy()
        half = tensor.astype(np.float16) if tensor.dtype == np.float32 else tensor
        if tensor.size < 1024 or half is tensor or not (half == tensor).all():
            continue
        stored = ir.Value(name=f"{name}.half", const_value=ir.tensor(half, name=f"{name}.half"))
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT})
        cast.outputs[0].name, cast.outputs[0].shape, cast.outputs[0].dtype = f"{name}.full", value.shape, value.dtype
        value.replace_all_uses_with(cast.outputs[0])
        del model.graph.initializers[name]
        model.graph.initializers[stored.name] = stored
        model.graph.insert_before(model.graph[0], cast)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's exporter, whose output is not meant for users."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable()
        try:
            yield
        finally:
            logging.disable(before)


def why(error: BaseException, model: Deployed, to: str) -> str:
    """Name what cannot be exported, as far as the error of torch's exporter tells."""
    while error.__cause__:
        error = error.__cause__
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    modules = {re.sub(r"^members\.\d+\.network\.", "", name): module for name, module in model.named_modules() if name}
    if fixed := re.match(r"Constraints violated \((.*)\)", line):
        others = [name for name, x in modules.items() if type(x).__module__.partition(".")[0] not in OURS]
        where = f", perhaps in {', '.join(f'model.{name}' for name in others)}" if others else ""
        line = f"{fixed[1]} is taken for a constant{where}. Use x.shape[0], not len(x), and no Python number made of it"
    names = {id(module): name for name, module in modules.items()}
    places = [names.get(id(frame.f_locals.get("self")), "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    place = next((place for place in reversed(places) if place), "")
    what = f"model.{place} ({type(modules[place]).__name__})" if place else "the network"
    return f"{what} cannot be exported to {to}: {line}"
