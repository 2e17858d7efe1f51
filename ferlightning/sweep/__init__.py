"""Searches for hyper-parameters: files in W&B's format, run here with Optuna and without an account."""
