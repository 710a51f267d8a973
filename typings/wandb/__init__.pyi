# Here is only what this project uses of Weights & Biases, as it uses it.
from collections.abc import Mapping
from typing import Literal

class Image:
    def __init__(self, data_or_path: object) -> None: ...

class Settings:
    def __init__(self, *, console: str, silent: bool) -> None: ...

class Config:
    def update(self, d: Mapping[str, object], allow_val_change: bool | None = None) -> None: ...

class Run:
    config: Config
    def define_metric(self, name: str, step_metric: str) -> object: ...
    def log(self, data: Mapping[str, object]) -> None: ...
    def finish(self, exit_code: int | None = None) -> None: ...

def init(
    *,
    project: str | None,
    id: str,
    name: str,
    mode: Literal["online", "offline", "disabled"] | None,
    dir: str | None,
    resume: Literal["allow"] | None,
    reinit: Literal["create_new"],
    settings: Settings,
) -> Run: ...
def teardown() -> None: ...
