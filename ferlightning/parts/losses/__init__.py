"""Losses: (Output, Batch) to a scalar. The classifier's loss is their sum, each times its weight."""
