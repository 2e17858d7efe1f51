"""Train, compare and ship facial-expression recognisers under one sound protocol."""

__version__ = "0.1.0"
