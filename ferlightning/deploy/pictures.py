"""Anything that holds a picture, as RGB bytes: files, Pillow's images, arrays."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.errors import FerlError
from ferlightning.images.decode import decode_bytes, decode_image, list_images, most_pixels, tell_once

Order = Literal["rgb", "bgr"]


def as_rgb(picture: Any, order: Order = "rgb", name: str = "the picture") -> NDArray[np.uint8]:
    """A picture as RGB, (H, W, 3), uint8.

    Args:
        picture: a path; the bytes of an image file, or a file object; a Pillow image; or an array (H, W), (H, W, C) or
            (C, H, W) with C of 1, 3 or 4, of uint8, of uint16, or of floats in [0, 1]. Files and Pillow images are
            turned as their EXIF entry says. Transparency is ignored.
        order: of an array's colours; OpenCV's are bgr.
        name: what the picture is called in a message.

    Raises:
        FerlError: it cannot be read, is empty or too large, or is no such array.
    """
    if hasattr(picture, "read"):
        try:
            if getattr(picture, "seekable", bool)():  # as Pillow does it: a file may have been read before
                picture.seek(0)
            picture = picture.read()
        except (OSError, ValueError) as error:  # closed, or opened to write
            raise FerlError(f"{name}: cannot be read: {error}") from None
        if isinstance(picture, str):
            raise FerlError(f"{name} is a file of text, expected one of bytes: open(PATH, 'rb')")
    if isinstance(picture, str | os.PathLike):
        name = os.fspath(picture)
        image = decode_image(Path(picture), color=True)
    elif isinstance(picture, bytes | bytearray | memoryview):
        image = decode_bytes(bytes(picture), color=True, name=name)
    else:
        try:
            array, order = _from_pillow(picture, order)
            array = np.asarray(as_array(array))
        except (OSError, ValueError) as error:  # cut short, closed, or lists of several lengths
            raise FerlError(f"{name}: cannot be read: {error}") from None
        if not array.ndim:
            raise FerlError(
                f"{name} is {picture!r:.80}, expected a path, bytes, a Pillow image or an array (None is what OpenCV "
                "gives in place of a file that it cannot read)"
            )
        image = _array_as_rgb(array, order, name)
    return image


def as_faces(crops: Any, color: bool, order: Order = "rgb") -> tuple[list[str], list[NDArray[np.uint8]]]:
    """Faces that were cut out, each with a name: its path, or its number.

    Args:
        crops: a picture as of ``as_rgb``, a folder of them, or several in a list or an array (N, H, W[, C]) or
            (N, C, H, W).
        color: RGB, (H, W, 3), instead of grey, (H, W).
        order: of the colours of arrays.

    Raises:
        FerlError: one cannot be read, or is no such array.
    """
    names, faces = [], []
    pictures: list[Any] = []
    for crop in as_list(crops):
        if isinstance(crop, str) and not crop:  # Path("") is the working folder
            raise FerlError("there is '' in place of pictures: give a path, an array, or several in a list")
        is_folder = isinstance(crop, str | os.PathLike) and os.path.isdir(crop)  # noqa: PTH112 - of any name
        inside = list_images(Path(crop)) if is_folder else [crop]
        if not inside:
            raise FerlError(f"there is no picture in {crop}")
        pictures += inside
    for n, crop in enumerate(pictures):
        is_path = isinstance(crop, str | os.PathLike)
        name = os.fspath(crop) if is_path else str(n)
        if is_path and not color:  # as `ferl predict` reads it: the grey of a JPEG file is not that of its colours
            image = decode_image(Path(crop), color=False)
        else:
            image = as_rgb(crop, order, name if is_path else f"picture {n}")
            if not color:
                image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
        names.append(name)
        faces.append(image)
    return names, faces


def as_list(pictures: Any) -> list[Any]:
    """One picture, or several in any iterable or an array (N, H, W[, C]) or (N, C, H, W), as a list.

    Raises:
        FerlError: an array may be one or several, or it is no picture at all.
    """
    single = isinstance(pictures, str | os.PathLike | bytes | bytearray | memoryview)
    if single or hasattr(pictures, "getexif") or hasattr(pictures, "read"):
        return [pictures]
    if isinstance(pictures, Mapping):  # its keys would be taken for paths
        raise FerlError(f"pictures are a {type(pictures).__name__}: give its values as a list")
    if not hasattr(pictures, "__iter__"):
        raise FerlError(f"there is {pictures!r} in place of pictures: give a path, an array, or several in a list")
    array = as_array(pictures)
    if not isinstance(array, np.ndarray):
        return list(array)
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] not in (1, 3, 4):
        raise FerlError(
            f"the array has the shape {array.shape}: write one colour picture as (H, W, 3) or (1, 3, H, W), or "
            "three grey ones as a list"
        )
    if array.ndim == 3 and array.shape[2] == 2:
        raise FerlError(f"the array has the shape {array.shape}: of grey with transparency, give the grey alone")
    stacked = array.ndim == 4 or (array.ndim == 3 and array.shape[2] not in (1, 3, 4))
    return list(array) if stacked else [array]


def as_array(values: Any) -> Any:
    """A tensor, or anything else with dimensions, such as a column of pandas, as NumPy's; other things unchanged."""
    if hasattr(values, "detach"):  # NumPy knows neither gradients, nor other devices, nor bfloat16
        if values.is_meta:
            raise FerlError("there is a tensor on the device meta, which has no values, in place of pictures")
        values = values.detach().cpu()
        values = values.to_dense() if values.is_sparse else values
        values = values.float() if values.is_floating_point() else values
    if not hasattr(values, "ndim"):
        return values
    array = np.asarray(values)
    return list(array) if array.dtype == object and array.ndim == 1 else array


def _from_pillow(picture: Any, order: Order) -> tuple[Any, Order]:
    """A Pillow image as an array and the order of its colours; anything else unchanged."""
    if not hasattr(picture, "getexif"):
        return picture, order
    from PIL import ImageOps

    turned = ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I;16"):
        return np.asarray(turned).astype(np.uint16), "rgb"
    if turned.mode in ("I", "F"):
        return np.asarray(turned), "rgb"
    return np.asarray(turned.convert("RGB")), "rgb"


def _array_as_rgb(array: NDArray[Any], order: Order, name: str) -> NDArray[np.uint8]:
    if order not in ("rgb", "bgr"):
        raise FerlError(f"order is {order!r}, expected 'rgb' or 'bgr'")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):  # as torch has it
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise FerlError(
            f"{name} has the shape {array.shape}, expected (H, W), or (H, W, C) or (C, H, W) with C = 1, 3 or 4"
        )
    if not array.size:
        raise FerlError(f"{name} has no pixels: its shape is {array.shape}")
    if array.shape[0] * array.shape[1] > most_pixels():
        raise FerlError(
            f"{name} has {array.shape[1]} x {array.shape[0]} pixels, more than {most_pixels():,}: make it smaller first"
        )
    array = _as_bytes(array, name)
    if array.shape[2] == 1:
        return np.repeat(array, 3, 2)
    colors = array[:, :, :3]
    return np.ascontiguousarray(colors[:, :, ::-1] if order == "bgr" else colors)


def _as_bytes(array: Any, name: str) -> Any:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "u" and array.itemsize == 2:  # of either order of bytes
        most = int(array.max())
        bits = 8 if most < 256 else 12 if most < 4096 else 16  # as in files
        if most > 0 and bits < 16:
            said = "%s is uint16, and its values are below %d: it, and others like it, are read as of %d bits"
            tell_once(str(bits), said, name, 1 << bits, bits)
        return (array >> (bits - 8)).astype(np.uint8)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "fiu":
        raise FerlError(f"{name} is {array.dtype}, expected uint8, uint16, or floats from 0 to 1")
    low, high = float(array.min()), float(array.max())  # NaN if there is one
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.rint(array * 255).astype(np.uint8)
    if array.dtype.kind in "iu" and low >= 0 and high <= 255:
        return array.astype(np.uint8)
    raise FerlError(
        f"{name} is {array.dtype} with values from {low:.6g} to {high:.6g}, expected uint8, uint16, or floats from "
        "0 to 1"
    )


def looks_bgr(faces: list[NDArray[np.uint8]]) -> bool:
    """Tell whether the colours of faces, RGB (H, W, 3), are probably in the wrong order.

    Skin of every tone reflects more red than blue (Kakumanu et al. 2007 review this), under any but coloured light.
    """
    means = np.array([cv2.mean(face)[:3] for face in faces]).reshape(-1, 3)
    return bool(len(means)) and bool((means[:, 2] > 1.15 * means[:, 0] + 5).all())
