"""ONNX files whose convolutions compute in 8-bit integers: a quarter of the size, and faster on most processors."""

from collections.abc import Iterator
from copy import copy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferlightning.data.datamodule import FaceData
from ferlightning.errors import FerlError
from ferlightning.export.traced import quiet, timed
from ferlightning.files import replacing
from ferlightning.runtime import open_session, seal

Inputs = dict[str, NDArray[Any]]

QUANTISED = ["Conv", "Add", "Relu", "AveragePool", "MaxPool"]
"""Operators that read and write integers, so that none between two convolutions goes back to floats. An addition far
from any, such as that of an attention's mask, stays in floats: its range may be infinite."""
BATCH = 32


def training_inputs(data: FaceData, shape: dict[str, Any], items: int = 512) -> list[Inputs]:
    """Batches of training images as an exported file takes them, evenly drawn and not augmented.

    Raises:
        FerlError: they are of another size than the network was trained on.
    """
    data = copy(data)  # the caller's goes on to test what it did
    data.tested = "train"
    vars(data).pop("items", None)  # of what was tested before
    data.setup("test")
    dataset: Any = data.test_dataloader().dataset
    chosen = np.unique(np.linspace(0, len(dataset) - 1, items).astype(int))
    batches = []
    for index in np.array_split(chosen, -(-len(chosen) // BATCH)):
        batch = dataset.__getitems__(index.tolist())
        image = batch["image"].numpy()
        if image.shape[2:] != (shape["channels"], *shape["size"]):
            raise FerlError(
                f"data: the images are {image.shape[2:]}, channels and size; the network was trained on "
                f"{(shape['channels'], *shape['size'])}: give the data that it was trained on"
            )
        if not shape["clips"]:
            batches.append({"image": image[:, 0]})
        else:
            mask = batch["mask"].numpy() if "mask" in batch else np.ones(image.shape[:2], bool)
            batches.append({"image": image, "mask": mask})
    return batches


def quantise(path: Path, out: Path, batches: list[Inputs]) -> None:
    """Write an ONNX file of ours in 8-bit integers, by the ranges that values have on some images.

    The first convolution, which reads the image, and the linear layers stay in floats: they take little time and lose
    most. Weights have 7 bits, because processors without VNNI add two products in 16 bits.
    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_static

    with TemporaryDirectory() as folder, quiet(), replacing(out) as temporary:
        folded = Path(folder, "folded.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # batch norms
        options.optimized_model_filepath = str(folded)
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        model = onnx.load(folded)
        if all(node.op_type != "Conv" for node in model.graph.node):
            raise FerlError("int8: the network has no convolution")
        quantize_static(
            folded, temporary, _Reader(batches), op_types_to_quantize=QUANTISED, per_channel=True, reduce_range=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=_kept(model.graph),
        )  # fmt: skip
        made = onnx.load(temporary)
        onnx.helper.set_model_props(made, {x.key: x.value for x in onnx.load(path).metadata_props})
        onnx.save(made, temporary)
        seal(temporary)


def _kept(graph: Any) -> list[str]:
    """The nodes that stay in floats: convolutions that read the image, and what is far from any convolution."""
    deep, near, kept = set[str](), set[str](), list[str]()  # values behind a convolution, and right behind one
    for node in graph.node:
        read, is_conv = set(node.input), node.op_type == "Conv"
        is_near = is_conv or (node.op_type in QUANTISED and not near.isdisjoint(read))
        if not is_near or (is_conv and deep.isdisjoint(read)):
            kept.append(node.name)
        if is_near:
            near.update(node.output)
        if is_conv or not deep.isdisjoint(read):
            deep.update(node.output)
    return kept


class _Reader:
    """What ``quantize_static`` reads."""

    def __init__(self, batches: list[Inputs]) -> None:
        self.batches: Iterator[Inputs] = iter(batches)

    def get_next(self) -> Inputs | None:
        return next(self.batches, None)


def compare(one: Path, other: Path, batches: list[Inputs]) -> dict[str, float]:
    """How much two files differ: ``change`` and ``same``, and their time on this processor, ``speedup_1`` and ``_64``.

    Returns:
        The mean difference of a probability, the share of images that keep their most probable class, and how many
        times faster the other one is, at batch 1 and 64 on one thread: medians of runs in turn.
    """
    sessions = [open_session(path, threads=1) for path in (one, other)]
    probs = [np.concatenate([session.run(None, batch)[0] for batch in batches]) for session in sessions]
    found = {
        "change": float(np.abs(probs[0] - probs[1]).mean()),
        "same": float((probs[0].argmax(1) == probs[1].argmax(1)).mean()),
    }
    for b, repeats in ((1, 200), (64, 10)):
        batch = {name: np.resize(x, (b, *x.shape[1:])) for name, x in batches[0].items()}
        before, after = timed([partial(session.run, None, batch) for session in sessions], repeats)
        found[f"speedup_{b}"] = before / after
    return found
