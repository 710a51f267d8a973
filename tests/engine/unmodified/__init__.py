"""Handlers, metrics and scripts of pytorch-ignite, unmodified, on the Engine of this package."""
