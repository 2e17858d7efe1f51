"""A window on the screen, where there is one."""

import os
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

from ferlightning.errors import FerlError


class Window:
    """A window on the screen; q, Escape or its close button ends it."""

    def __init__(self, title: str) -> None:
        self.title = title

    def __enter__(self) -> "Window":
        screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if sys.platform.startswith("linux") and not screen:
            raise FerlError("--show: there is no display here")
        try:
            cv2.namedWindow(self.title, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise FerlError(
                "--show: this OpenCV has no windows. pip uninstall opencv-python-headless, then "
                "pip install 'opencv-python<5'"
            ) from None
        return self

    def show(self, image: NDArray[np.uint8]) -> bool:
        """Show an RGB image; False once the user has closed the window."""
        cv2.imshow(self.title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1) & 0xFF
        return key not in (27, ord("q")) and cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1

    def __exit__(self, *_: object) -> None:
        cv2.destroyWindow(self.title)
