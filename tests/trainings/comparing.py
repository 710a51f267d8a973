"""How long a training is: its lines of code as they are formatted, without imports."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

TRAININGS: Final = ("cnn", "language_model", "torchmetrics")
LIBRARIES: Final = ("fengine", "lightning", "ignite")


def lines_of(training: str, library: str) -> int:
    """Count the lines of a program that say something; imports and what it is about do not."""
    text = Path(__file__).with_name(training).joinpath(f"with_{library}.py").read_text("utf-8")
    tree = ast.parse(text)
    left_out: set[int] = set()
    for node in tree.body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in left_out
        for number, line in lines
    )
