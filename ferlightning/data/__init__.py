"""The data sets. Importing this package is what makes their short names work on the command line."""

from ferlightning.data.fer2013 import FER2013
from ferlightning.data.folder import ImageFolder
from ferlightning.data.synthetic import SyntheticFaces

__all__ = ["FER2013", "ImageFolder", "SyntheticFaces"]
