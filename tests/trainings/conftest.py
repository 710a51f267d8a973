"""Peers are run by the command alone, since Lightning may not be installed."""

collect_ignore_glob = ["*/with_lightning.py", "*/with_ignite.py"]
