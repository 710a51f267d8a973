"""Programs for the type checker: never run, only read by `tests/test_typing.py`."""
