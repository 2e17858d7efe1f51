"""Drawn faces: nothing to download, known truth."""

from ferlightning.data.sources.synthetic.datamodule import SyntheticFaces as SyntheticFaces
