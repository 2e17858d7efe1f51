"""What parts become: the network, and the Lightning modules that train and evaluate it."""
