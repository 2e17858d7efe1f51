"""Where data come from: one module a format."""
