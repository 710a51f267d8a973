"""Systems: their names, which of them are installed, and on what machine they run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Final

BARE: Final = "bare loop"
LOOP: Final = "fengine Loop"
ENGINE: Final = "fengine Engine"
IGNITE: Final = "pytorch-ignite"
FABRIC: Final = "Lightning Fabric"
TRAINER: Final = "Lightning Trainer"
ACCELERATE: Final = "accelerate"
ALL: Final = (BARE, LOOP, ENGINE, IGNITE, FABRIC, TRAINER, ACCELERATE)

# Each optional module, with the distribution that it comes in.
_DISTRIBUTIONS: Final = {
    "torch": "torch",
    "ignite": "pytorch-ignite",
    "lightning": "lightning",
    "accelerate": "accelerate",
    "matplotlib": "matplotlib",
}


def installed() -> frozenset[str]:
    """Name the optional modules that are here."""
    return frozenset(name for name in _DISTRIBUTIONS if importlib.util.find_spec(name) is not None)


def missing(have: frozenset[str]) -> Iterator[str]:
    """Say what is left out, and how it is installed."""
    for module, distribution in _DISTRIBUTIONS.items():
        if module not in have:
            extra = "" if module == "torch" else "[benchmarks]"
            yield f"{distribution} is not installed and left out; pip install -e '.{extra}' adds it"


def setting(have: frozenset[str]) -> Iterator[str]:
    """Describe the interpreter, the versions and the machine."""
    present = ["fengine", *(name for module, name in _DISTRIBUTIONS.items() if module in have)]
    yield f"{platform.python_implementation()} {platform.python_version()}; " + ", ".join(
        f"{name} {_version(name)}" for name in present
    )
    yield f"{_processor()}, {os.cpu_count()} cores, of which one is used; {platform.system()}"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed, but importable)"


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
