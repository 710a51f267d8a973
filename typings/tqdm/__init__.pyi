# tqdm ships no types; here is only what this project uses of it, as it uses it.
from typing import Protocol

class _Writable(Protocol):
    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...

class tqdm:
    monitor_interval: int
    n: int
    def __init__(
        self,
        *,
        desc: str,
        total: int | None,
        unit: str = ...,
        file: _Writable = ...,
        leave: bool,
        miniters: int = ...,
        disable: bool | None = ...,
    ) -> None: ...
    def set_postfix(self, ordered_dict: dict[str, str], refresh: bool) -> None: ...
    def update(self, n: int = 1) -> bool | None: ...
    def close(self) -> None: ...
    @classmethod
    def write(cls, s: str, file: _Writable) -> None: ...
