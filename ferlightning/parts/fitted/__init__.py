"""Parts that are solved for at intervals, not learned by gradient."""
