"""A run written down: as plain data, and as snapshots of the state and of what is outside it.

A file here may import from `core` and `run`.
"""
