"""What is wrong with a split: copies, people on both sides, blank images, drift of the classes."""
