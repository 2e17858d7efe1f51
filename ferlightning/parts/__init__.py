"""The parts we ship. Importing this package is what makes their short names work on the command line."""

from ferlightning.parts.attentions import AdditiveAttention, DotProductAttention
from ferlightning.parts.backbones import ConvStack, ResNet, Timm
from ferlightning.parts.heads import LinearHead, MLPHead
from ferlightning.parts.losses import CrossEntropy, FocalLoss, MultiTargetLoss
from ferlightning.parts.sequences import GRU, LSTM, SelfAttention

__all__ = [
    "GRU",
    "LSTM",
    "AdditiveAttention",
    "ConvStack",
    "CrossEntropy",
    "DotProductAttention",
    "FocalLoss",
    "LinearHead",
    "MLPHead",
    "MultiTargetLoss",
    "ResNet",
    "SelfAttention",
    "Timm",
]
