"""The parts we ship. Importing this package is what makes their short names work on the command line."""

from ferlightning.parts.attentions import AdditiveAttention, DotProductAttention, SpatialTemporalAttention
from ferlightning.parts.backbones import ConvStack, DepthwiseStack, ResNet, Timm
from ferlightning.parts.center import CenterLoss
from ferlightning.parts.contrastive import SupervisedContrastive
from ferlightning.parts.distillation import Distillation
from ferlightning.parts.fitted import LDA
from ferlightning.parts.heads import CosineHead, DANHead, LinearHead, MLPHead
from ferlightning.parts.hinge import HingeLoss
from ferlightning.parts.losses import CrossEntropy, FocalLoss, MultiTargetLoss
from ferlightning.parts.noisy_labels import SelfCureWeighting
from ferlightning.parts.patches import Patches
from ferlightning.parts.projection_head import ProjectionHead
from ferlightning.parts.recalibration import CBAM, SqueezeExcitation
from ferlightning.parts.reconstruction import Reconstruction
from ferlightning.parts.restorers import DenoisingAutoencoder
from ferlightning.parts.sequences import GRU, LSTM, TCN, SelfAttention, TransformerEncoder
from ferlightning.parts.svm import SVM, SVMHead

__all__ = [
    "CBAM",
    "GRU",
    "LDA",
    "LSTM",
    "SVM",
    "TCN",
    "AdditiveAttention",
    "CenterLoss",
    "ConvStack",
    "CosineHead",
    "CrossEntropy",
    "DANHead",
    "DenoisingAutoencoder",
    "DepthwiseStack",
    "Distillation",
    "DotProductAttention",
    "FocalLoss",
    "HingeLoss",
    "LinearHead",
    "MLPHead",
    "MultiTargetLoss",
    "Patches",
    "ProjectionHead",
    "Reconstruction",
    "ResNet",
    "SVMHead",
    "SelfAttention",
    "SelfCureWeighting",
    "SpatialTemporalAttention",
    "SqueezeExcitation",
    "SupervisedContrastive",
    "Timm",
    "TransformerEncoder",
]
