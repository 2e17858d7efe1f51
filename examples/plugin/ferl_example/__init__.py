"""Example of a ferlightning plug-in. Importing this package makes its parts known by their short names."""

from ferl_example.backbones import TinyNet
from ferl_example.losses import ConfidencePenalty
from ferl_example.restorers import GaussianBlur

__all__ = ["ConfidencePenalty", "GaussianBlur", "TinyNet"]
