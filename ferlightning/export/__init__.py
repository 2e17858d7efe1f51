"""Trained networks as files that run without ferlightning and without torch."""
