"""Where a model looked: the weights of its attention or, in a model without one, Grad-CAM.

Shapes: B batch, T frames, C channels, H W image, L tokens, H' W' feature map, K classes, N items of the split.
"""

import base64
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ferlightning.contracts.modules import Backbone, Output, Stage
from ferlightning.errors import FerlError
from ferlightning.evaluation.statistics import Array
from ferlightning.files import replacing
from ferlightning.models.network import Network, spelled_names

STILLS, CLIPS = 6, 3
"""How many right and how many wrong predictions are shown."""
TINY = np.finfo(np.float32).tiny
"""Divisor in place of 0."""


class Explanation(NamedTuple):
    """Where a model looked in one item of T real frames."""

    image: Array
    """(T, H, W) grey or (T, H, W, 3) RGB, in [0, 1]."""
    weight: Array
    """(T,) share of each frame, summing to 1; all zeros if nothing speaks for the class."""
    heat: Array | None
    """(T, H, W) in [0, 1], from ``heat_map``; None if the tokens are whole frames."""
    true: str
    predicted: str
    confidence: float

    def save(self, path: str | Path) -> None:
        """Write the face, and beside it the face in the colour of its heat, as an image; of a clip, the middle frame.

        Raises:
            FerlError: the name has no ending of an image, such as .png.
        """
        import cv2

        if not cv2.haveImageWriter(str(path)):
            raise FerlError(f"{path}: an image is written by the ending of its name, such as {Path(path).stem}.png")
        with replacing(Path(path)) as temporary:
            coded = cv2.imencode(Path(path).suffix, np.hstack(self._pictures())[..., ::-1])[1]
            temporary.write_bytes(coded.tobytes())

    def _repr_html_(self) -> str:
        """The face, and the face in the colour of its heat, of the middle frame."""
        pictures = "".join(
            f'<img src="{png_source(image)}" style="width: 8em; image-rendering: pixelated"> '
            for image in self._pictures()
        )
        return f"{pictures}<p>{escape(self.predicted)} {self.confidence:.0%}</p>"

    def _pictures(self) -> list[Array]:
        """(H, W, 3) RGB, uint8, each."""
        face = self.image[len(self.image) // 2]
        face = np.repeat(face[..., None], 3, 2) if face.ndim == 2 else face
        shown = [face]
        if self.heat is not None:
            heat = 0.75 * self.heat[len(self.heat) // 2][..., None]
            shown.append((1 - heat) * face + heat * np.array([1.0, 0.55, 0.0]))
        return [(255 * image).round().astype(np.uint8) for image in shown]


class Explanations(NamedTuple):
    """The content of one picture: right predictions first, then wrong ones."""

    method: str
    items: list[Explanation]


def as_pixels(frames: Tensor) -> Array:
    """Frames (T, C, H, W) as images: (T, H, W, 3) RGB if there are three channels, else the first one, (T, H, W)."""
    pixels: Array = (frames.movedim(1, 3) if frames.shape[1] == 3 else frames[:, 0]).numpy()
    return pixels


def png_source(image: Array) -> str:
    """A grey or RGB image, uint8, as the source of one in a page."""
    import cv2

    coded = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1]
    return "data:image/png;base64," + base64.b64encode(coded.tobytes()).decode()


def explain_items(
    trainer: Trainer,
    model: LightningModule,
    split: str,
    index: Array,
    label: Array,
    probs: Array,
    class_names: list[str],
) -> Explanations | None:
    """Run some items of a finished evaluation again, and see where the model looks.

    The model and the random state stay as they are.

    Args:
        trainer: of the evaluation; the items are fetched once more from the data set of its loader.
        model: in eval mode, with its parts in attributes of its own or of its ``network``.
        split: "val" or "test".
        index: (N,) numbers of the items within the data set.
        label: (N,) class index.
        probs: (N, K) in [0, 1].
        class_names: K names.

    Returns:
        None if the model is not made of our parts, if the items cannot be fetched, or if they have a single token.

    Raises:
        RuntimeError: a part of the model has no gradient.
        LookupError: the data set has no item with one of these numbers.
    """
    loader: Any = trainer.test_dataloaders if split == "test" else trainer.val_dataloaders
    dataset: Any = getattr(loader, "dataset", None)
    if not isinstance(part(model, "backbone"), Backbone) or not hasattr(dataset, "__getitem__"):
        return None
    is_clip = len(dataset[int(index[0])]["image"]) > 1
    chosen = choose(label, probs, CLIPS if is_clip else STILLS)
    # The loop runs in inference mode, whose tensors have no gradient. The loader gets a generator of its own because it
    # draws a seed for its workers even if it has none.
    with torch.inference_mode(False), torch.no_grad(), trainer.precision_plugin.forward_context():
        again: DataLoader[Any] = DataLoader(
            dataset, batch_sampler=[index[chosen].tolist()], collate_fn=loader.collate_fn, generator=torch.Generator()
        )
        batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(next(iter(again))))
        if batch["index"].tolist() != index[chosen].tolist():  # the data set is not in the order of its numbers
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
            Explanation(
                as_pixels(frames),
                cells.sum((1, 2)) / max(cells.sum(), TINY),
                None if cells[0].size == 1 else heat_map(cells, frames.shape[2:]),
                class_names[label[n]],
                class_names[probs[n].argmax()],
                float(probs[n].max()),
            )
        )
    return Explanations(method, items)


def explain_image(network: nn.Module, image: Tensor) -> Explanation | None:
    """Where a network looks in one still, (1, 1, C, H, W) in [0, 1]; None if it has no part that tells."""
    if not isinstance(network, Network):
        return None
    with torch.no_grad():
        probs = network(image).logits.softmax(1)[0].numpy()
        _, maps = _maps(network, image, None, torch.tensor([int(probs.argmax())]))
    if maps is None or maps[0].numel() == 1:
        return None
    frames, cells, predicted = image[0], maps[0].numpy(), spelled_names(network)[probs.argmax()]
    heat = heat_map(cells, frames.shape[2:])
    return Explanation(as_pixels(frames), np.ones(1), heat, "", predicted, float(probs.max()))


def choose(label: Array, probs: Array, n: int) -> Array:
    """Choose n right predictions, then n wrong ones: the most confident of each true class before any class's second.

    Args:
        label: (N,) class index.
        probs: (N, K) in [0, 1].
        n: how many of each kind; fewer come back if there are fewer.

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

    0 is the mean weight or less, so that a model that looks at everything equally lights nothing; 1 is twice the mean
    or the heaviest cell, whichever is more.

    Args:
        cells: (T, H', W'), >= 0.
        size: (H, W).

    Returns:
        (T, H, W) in [0, 1], interpolated linearly between the centres of the cells.
    """
    above = torch.from_numpy(cells / max(cells.mean(), TINY) - 1)
    heat = F.interpolate(above.unsqueeze(1), size, mode="bilinear").squeeze(1)
    return (heat / max(1.0, float(above.max()))).clamp(0, 1).numpy()


def _maps(model: nn.Module, image: Tensor, mask: Tensor | None, target: Tensor) -> tuple[str, Tensor | None]:
    """Return the name of the method, and the weights of cells or frames (B, T, H', W') >= 0."""
    attention = part(model, "attention")
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


def part(model: nn.Module, slot: str) -> Any:
    """Return a part of a model, such as its "backbone"; None if the slot is empty or the model has no slots."""
    return getattr(getattr(model, "network", model), slot, None)


def grad_cam(model: nn.Module, image: Tensor, mask: Tensor | None, target: Tensor) -> Tensor:
    """Compute Grad-CAM of the backbone's feature map A: relu(sum over channels of A * the mean over cells of dy/dA).

    Selvaraju et al. 2017, eq. 1-2, https://arxiv.org/abs/1610.02391; y is the logit of the class, and each frame of a
    clip has a mean of its own.

    Args:
        model: in eval mode, with a backbone; its ``forward`` returns an ``Output``.
        image: (B, T, C, H, W).
        mask: (B, T) bool, True = real frame; None if all are.
        target: (B,) class index.

    Returns:
        (B, T, H', W') >= 0, 0 in padding.
    """
    from captum.attr import LayerGradCam  # late: takes a second

    backbone: nn.Module = part(model, "backbone")

    def score(image: Tensor) -> Tensor:
        with torch.no_grad():
            output: Output = model.forward(image, mask)  # not model(...): a compiled one would not call the hooks
        return output.logits

    def start(module: nn.Module, args: Any, features: Tensor) -> None:
        torch.set_grad_enabled(True)  # only from the features on: the backbone's graph would take most of the memory

    hook = backbone.register_forward_hook(start)
    try:
        # cuDNN's recurrent networks have no gradient in eval mode.
        with torch.backends.cudnn.flags(enabled=False):
            maps = LayerGradCam(score, backbone).attribute(image, target, relu_attributions=True)
    finally:
        hook.remove()
    cams: Tensor = maps.detach().squeeze(1)  # (N, H', W'), N frames: all, or the real ones
    if mask is None or len(cams) == mask.numel():
        full = cams.view(*image.shape[:2], *cams.shape[1:])
        return full if mask is None else full.masked_fill(~mask[:, :, None, None], 0)
    full = cams.new_zeros(*mask.shape, *cams.shape[1:])
    full[mask] = cams
    return full
