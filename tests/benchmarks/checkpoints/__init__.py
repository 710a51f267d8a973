"""The benchmark of checkpoints: what saves and going on cost, and what kills leave of them."""
