# tensorboard ships no types; here is only what this project uses of it, as it uses it.
from typing import Self

class _Histogram:
    sum: float

class _Scalar:
    step: int
    value: float

class _Histograms:
    step: int
    histogram_value: _Histogram

class EventAccumulator:
    def __init__(self, path: str) -> None: ...
    def Reload(self) -> Self: ...
    def Tags(self) -> dict[str, list[str]]: ...
    def Scalars(self, tag: str) -> list[_Scalar]: ...
    def Histograms(self, tag: str) -> list[_Histograms]: ...
