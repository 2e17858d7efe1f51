"""The parts that ferlightning ships. Importing this package makes their short names work on the command line."""

from ferlightning.parts.attentions import AdditiveAttention, DotProductAttention, SpatialTemporalAttention
from ferlightning.parts.backbones.patches import Patches
from ferlightning.parts.backbones.pruned import Pruned
from ferlightning.parts.backbones.resnet import ResNet
from ferlightning.parts.backbones.stacks import ConvStack, DepthwiseStack
from ferlightning.parts.backbones.timm import Timm
from ferlightning.parts.fitted.lda import LDA, PCA
from ferlightning.parts.fitted.svm import SVM, SVMHead
from ferlightning.parts.heads import CosineHead, DANHead, LinearHead, MLPHead
from ferlightning.parts.losses.auxiliary import AuxiliaryHead
from ferlightning.parts.losses.classification import (
    CrossEntropy,
    FocalLoss,
    HingeLoss,
    MultiTargetLoss,
    SelfCureWeighting,
)
from ferlightning.parts.losses.distillation import Distillation
from ferlightning.parts.losses.embedding import CenterLoss, SupervisedContrastive
from ferlightning.parts.losses.reconstruction import ImageDecoder, Reconstruction
from ferlightning.parts.projection_head import LinearProjection, ProjectionHead
from ferlightning.parts.recalibration import CBAM, SqueezeExcitation
from ferlightning.parts.restorers import DenoisingAutoencoder
from ferlightning.parts.sequences import GRU, LSTM, TCN, SelfAttention, TransformerEncoder

__all__ = [
    "CBAM",
    "GRU",
    "LDA",
    "LSTM",
    "PCA",
    "SVM",
    "TCN",
    "AdditiveAttention",
    "AuxiliaryHead",
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
    "ImageDecoder",
    "LinearHead",
    "LinearProjection",
    "MLPHead",
    "MultiTargetLoss",
    "Patches",
    "ProjectionHead",
    "Pruned",
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
