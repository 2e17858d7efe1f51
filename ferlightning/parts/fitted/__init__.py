"""Parts that are solved for at intervals instead of learned by gradient."""
