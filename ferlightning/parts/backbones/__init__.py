"""Backbones: images (N, C, H, W) to a feature map (N, D, H', W')."""
