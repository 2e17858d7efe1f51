"""Losses: (Output, Batch) to a scalar. The training loss is their sum, each times its weight."""
