"""The exported network that tells the expression of a face."""

import json
import shlex
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning import images
from ferlightning.contracts.images import Preprocess
from ferlightning.errors import FerlError
from ferlightning.forms import ANY, IMAGES, odd_places
from ferlightning.images.decode import resize_to_square
from ferlightning.runtime import open_session
from ferlightning.weights import REGISTRY, find_file, find_weights, meant_weights

Image = NDArray[np.uint8]
MOST_MARGIN = 10.0
"""The largest margin around a face, as a share of its side; with more, nothing of the face would be left."""


class FaceModel(Protocol):
    """What a recogniser needs of a model; a plug-in may bring its own.

    Attributes:
        class_names: the K classes.
        read_size: side of the faces that it takes, in pixels.
        color: whether its network sees colours; a model without this attribute gets colours.
        margin: how much more of a face's surroundings it was trained on than FER2013 has, as a share of the side.
        clips: whether it takes clips of several frames instead of stills.
    """

    class_names: list[str]
    read_size: int
    color: bool
    margin: float
    clips: bool

    def __call__(self, faces: list[list[Image]]) -> NDArray[np.float32]:
        """Probabilities of the classes.

        Args:
            faces: for each the frames of its clip, the last one newest, one for stills; RGB, (S, S, 3).

        Returns:
            (N, K), rows sum to 1.
        """
        ...


class OnnxModel:
    """A model that ``ferl export`` wrote.

    Args:
        source: the ONNX file, or a name of shipped weights.
        view: take these classes instead of the model's own, such as ``fer2013``.
        threads: how many one run may use.

    Raises:
        FerlError: there is no such file or view, or ``ferl export`` did not write it.
    """

    def __init__(self, source: str | Path, view: str | None = None, threads: int = 1) -> None:
        path = _find(source)
        self.path, self.session = path, open_session(path, threads)
        stored = self.session.get_modelmeta().custom_metadata_map.get("ferlightning")
        if stored is None:
            raise FerlError(f"{path} does not tell its classes: write it by `ferl export`")
        try:
            self._take(json.loads(stored), view, path)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise FerlError(f"{path}: what it tells of itself is damaged ({error!r}): export it again") from error

    def _take(self, known: dict[str, Any], view: str | None, path: Path) -> None:
        """Take over what the file tells of its classes and images."""
        form = {"class_names": [str], "views": {ANY: [str]}, "input": IMAGES}
        for place in odd_places(known, form, "header", {"class_names", "input", "color", "size"}):
            raise ValueError(f"{place} is of the wrong type")
        if len(known["input"]["size"]) != 2:
            raise ValueError("size is no height and width")
        views: dict[str, list[str]] = known.get("views", {})
        if view is not None and view not in views:
            raise FerlError(f"{path} has no view {view!r}; it has {', '.join(views) or 'none'}")
        taken = known["input"]
        self.output = view or "probabilities"
        self.class_names = list(views[view] if view else known["class_names"])
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError("two classes have one name")
        self.color: bool = taken["color"]
        self.size: list[int] = taken["size"]
        self.read_size: int = taken.get("read_size") or max(self.size)
        self.margin: float = taken.get("margin", 0.0)
        if not 0 <= self.margin <= MOST_MARGIN:
            raise ValueError(f"margin is {self.margin}")
        self.clips: bool = taken.get("clips", False)
        self.preprocess = [_build(part, path) for part in taken.get("preprocess", [])]

    def __call__(self, faces: list[list[Image]]) -> NDArray[np.float32]:
        if not faces:
            return np.zeros((0, len(self.class_names)), np.float32)
        try:
            return self._run(faces)
        except FerlError:
            raise
        except Exception as error:  # ONNX Runtime's own kinds have no common base, nor those of preprocessing
            raise FerlError(f"{self.path} does not work as it says of itself ({error!r}): export it again") from error

    def _run(self, faces: list[list[Image]]) -> NDArray[np.float32]:
        if not self.clips:
            inputs: dict[str, Any] = {"image": np.stack([self._prepare(clip[-1]) for clip in faces])}
        else:
            length = max(map(len, faces))
            clips = [[self._prepare(frame) for frame in clip] for clip in faces]
            filled = [clip + [clip[-1]] * (length - len(clip)) for clip in clips]  # what the mask hides
            mask = np.arange(length) < np.array([[len(clip)] for clip in clips])
            inputs = {"image": np.stack([np.stack(clip) for clip in filled]), "mask": mask}
        given = {node.name: inputs[node.name] for node in self.session.get_inputs()}
        probabilities: NDArray[np.float32] = self.session.run([self.output], given)[0]
        if probabilities.shape != (len(faces), len(self.class_names)):
            raise FerlError(f"{self.path} gives other classes than it says: export it again")
        return probabilities

    def _prepare(self, face: Image) -> Image:
        """One face as the network takes it. Shape: (S, S, 3), or (S, S) if it is grey already -> (C, H, W)."""
        if not self.color and face.ndim == 3:
            face = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
        image = face if face.ndim == 3 else face[:, :, None]
        for part in self.preprocess:
            image = part(image)
        if list(image.shape[:2]) != self.size:
            image = resize_to_square(image, self.size[0]).reshape(*self.size, -1)
        return image.transpose(2, 0, 1)


def _find(source: str | Path) -> Path:
    name = str(source)
    if name in REGISTRY and not Path(name).exists():
        entry = REGISTRY.get(f"{name.removesuffix('.onnx')}.onnx")
        if entry is None:
            raise FerlError(f"{name} has no ONNX file of its own: write one by `ferl export {name}`")
        return find_file(entry, name)
    path = find_weights(name)
    if path.is_dir():
        export = f"ferl export {shlex.quote(str(path))} mine.onnx"
        raise FerlError(f"{path} is a folder: `{export}` makes a file of a run, then take mine.onnx")
    if not path.is_file():
        raise FerlError(f"there is no model {source}{meant_weights(name)}")
    if path.suffix == ".pt2":
        raise FerlError(f"{path} is an export for torch alone: export its run folder or checkpoint to .onnx")
    if path.suffix != ".onnx":
        trained = path.suffix in (".ckpt", ".safetensors")
        of = shlex.quote(str(source)) if trained else "RUN"
        raise FerlError(f"{path} is no ONNX file: write one by `ferl export {of} mine.onnx`, then take mine.onnx")
    return path


def _build(part: dict[str, Any], path: Path) -> Preprocess:
    """A part of ``ferlightning.images`` from its class path and arguments."""
    name = part["class_path"].rpartition(".")[2]
    found = getattr(images, name, None)
    if name not in images.__all__ or not isinstance(found, type) or not issubclass(found, Preprocess):
        raise FerlError(f"{path}: images are to be prepared by {part['class_path']}, which is none of ferlightning's")
    return found(**part.get("init_args", {}))
