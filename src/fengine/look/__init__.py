"""A run looked at: what it will do, what a loop is in words, what differs, and who wrote what.

A file here may import from `core`, `run` and `keep`; nothing here runs a loop.
"""
