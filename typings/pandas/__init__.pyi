"""Values of pandas, which states hold in tests; nothing there is known of their types."""

from typing import Any

def __getattr__(name: str) -> Any: ...
