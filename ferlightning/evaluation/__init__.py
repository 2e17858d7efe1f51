"""Metrics, intervals and the report of an evaluation."""
