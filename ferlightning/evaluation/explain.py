"""Where a model looked: the weights of its attention or, in a model that has none, Grad-CAM.

Shapes: B batch, T frames, C channels, H W image, L tokens, H' W' feature map, K classes, N items of the split.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ferlightning.contracts.modules import Backbone, Output, Stage
from ferlightning.evaluation.statistics import Array

STILLS, CLIPS = 6, 3
"""How many right and how many wrong predictions are shown."""


class Look(NamedTuple):
    """Where a model looked at one item, of which the T real frames are kept."""

    image: Array
    """(T, H, W) grey or (T, H, W, 3) RGB, in [0, 1]."""
    weight: Array
    """(T,) share of each frame, summing to 1; zeros where nothing speaks for the class."""
    heat: Array | None
    """(T, H, W) in [0, 1], of ``heat_map``; None where the tokens are frames."""
    true: str
    predicted: str
    confidence: float


class Looks(NamedTuple):
    """What a picture shows: right predictions first, then wrong ones."""

    method: str
    items: list[Look]


def find_looks(
    trainer: Trainer,
    model: LightningModule,
    split: str,
    index: Array,
    label: Array,
    probs: Array,
    class_names: list[str],
) -> Looks | None:
    """Look again at some items of an evaluation that has just ended. The model and the random state stay as they are.

    Args:
        trainer: of the evaluation; the items are fetched once more from the data set of its loader.
        model: in eval mode.
        split: "val" or "test".
        index: (N,) numbers of the items within the data set.
        label: (N,) class index.
        probs: (N, K) in [0, 1].
        class_names: K names.

    Returns:
        None for a model that is not made of our parts, and where the items cannot be fetched or have but one token.

    Raises:
        RuntimeError: a part of the model has no gradient.
        LookupError: the data set has no item of such a number.
    """
    loader: Any = trainer.test_dataloaders if split == "test" else trainer.val_dataloaders
    dataset: Any = getattr(loader, "dataset", None)
    if not isinstance(getattr(model, "backbone", None), Backbone) or not hasattr(dataset, "__getitem__"):
        return None
    is_clip = len(dataset[int(index[0])]["image"]) > 1
    chosen = choose(label, probs, CLIPS if is_clip else STILLS)
    # Tensors of the inference mode that the loop runs in could not be differentiated. A generator of its own, as a
    # loader draws a seed for its workers even if it has none.
    with torch.inference_mode(False), torch.no_grad(), trainer.precision_plugin.forward_context():
        again: DataLoader[Any] = DataLoader(
            dataset, batch_sampler=[index[chosen].tolist()], collate_fn=loader.collate_fn, generator=torch.Generator()
        )
        batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(next(iter(again))))
        if batch["index"].tolist() != index[chosen].tolist():  # a data set of another order than its numbers
            return None
        image, mask = batch["image"], batch.get("mask")
        method, maps = _maps(model, image, mask, torch.from_numpy(probs[chosen].argmax(1)).to(image.device))
    if maps is None or maps[0].numel() == 1:
        return None

    items = []
    for i, n in enumerate(chosen):
        real = slice(None) if mask is None else mask[i]
        frames = image[i][real].float().cpu()
        cells = maps[i][real].float().cpu().numpy()
        items.append(
            Look(
                (frames.movedim(1, 3) if frames.shape[1] == 3 else frames[:, 0]).numpy(),
                cells.sum((1, 2)) / max(cells.sum(), np.finfo(np.float32).tiny),
                None if cells[0].size == 1 else heat_map(cells, frames.shape[2:]),
                class_names[label[n]],
                class_names[probs[n].argmax()],
                float(probs[n].max()),
            )
        )
    return Looks(method, items)


def choose(label: Array, probs: Array, n: int) -> Array:
    """Choose n right predictions, then n wrong ones: the most confident of each true class before a second of any.

    Args:
        label: (N,) class index.
        probs: (N, K) in [0, 1].
        n: of each kind, fewer if there are not so many.

    Returns:
        Positions in ``label``.
    """
    order = np.argsort(-probs.max(1), kind="stable")
    right = (probs.argmax(1) == label)[order]
    chosen = []
    for part in (order[right], order[~right]):
        first = np.sort(np.unique(label[part], return_index=True)[1])  # the best of each class, in their order
        chosen.append(np.concatenate([part[first], np.delete(part, first)])[:n])
    return np.concatenate(chosen)


def heat_map(cells: Array, size: tuple[int, ...]) -> Array:
    """Enlarge the weights of cells to the size of the image, and scale them for the eye.

    0 is the mean weight or less, so that a model which looks everywhere alike lights nothing; 1 is twice the mean or,
    if it is more, the heaviest cell.

    Args:
        cells: (T, H', W'), >= 0.
        size: (H, W).

    Returns:
        (T, H, W) in [0, 1], linear between the centres of the cells.
    """
    above = torch.from_numpy(cells / max(cells.mean(), np.finfo(np.float32).tiny) - 1)
    heat = F.interpolate(above.unsqueeze(1), size, mode="bilinear").squeeze(1)
    return (heat / max(1.0, float(above.max()))).clamp(0, 1).numpy()


def _maps(model: LightningModule, image: Tensor, mask: Tensor | None, target: Tensor) -> tuple[str, Tensor | None]:
    """Name of the method, and the weights of cells or frames (B, T, H', W') >= 0."""
    attention: Any = getattr(model, "attention", None)
    if isinstance(attention, Stage):
        grids: list[tuple[int, int, int]] = []
        hook = attention.register_forward_pre_hook(lambda _, args: grids.append(args[0].grid))
        try:
            output = model.forward(image, mask)
        finally:
            hook.remove()
        if isinstance(output, Output) and output.attention is not None and output.attention.shape[1] > 1:
            return f"weights of {type(attention).__name__}", output.attention.reshape(len(image), *grids[0])
    if not isinstance(model.forward(image[:1], None if mask is None else mask[:1]), Output):
        return "", None
    return "Grad-CAM of the predicted class", grad_cam(model, image, mask, target)


def grad_cam(model: LightningModule, image: Tensor, mask: Tensor | None, target: Tensor) -> Tensor:
    """Grad-CAM of the backbone's feature map: relu(sum over channels of A * the mean of dy/dA over its cells).

    Selvaraju et al. 2017, eq. 1-2, https://arxiv.org/abs/1610.02391; y is the logit of the class, and each frame of a
    clip has a mean of its own.

    Args:
        model: with ``backbone``, in eval mode; its ``forward`` returns an ``Output``.
        image: (B, T, C, H, W).
        mask: (B, T) bool, True = real frame; None if all are.
        target: (B,) class index.

    Returns:
        (B, T, H', W') >= 0, zeros where there is padding.
    """
    from captum.attr import LayerGradCam

    backbone: nn.Module = model.backbone  # type: ignore[assignment]

    def score(image: Tensor) -> Tensor:
        with torch.no_grad():
            output: Output = model.forward(image, mask)  # not model(...): a compiled one would not call the hooks
        return output.logits

    def start(module: nn.Module, args: Any, features: Tensor) -> None:
        torch.set_grad_enabled(True)  # only from the features on: the backbone's graph would be most of the memory

    hook = backbone.register_forward_hook(start)
    try:
        # cuDNN's recurrent networks have no gradient in eval mode.
        with torch.backends.cudnn.flags(enabled=False):
            maps = LayerGradCam(score, backbone).attribute(image, target, relu_attributions=True)
    finally:
        hook.remove()
    cams: Tensor = maps.detach().squeeze(1)  # (N, H', W'), N frames that are real
    if mask is None:
        return cams.view(*image.shape[:2], *cams.shape[1:])
    full = cams.new_zeros(*mask.shape, *cams.shape[1:])
    full[mask] = cams
    return full
