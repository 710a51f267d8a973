"""A conformance suite for any Engine of the documented API; see `check_engine`."""
