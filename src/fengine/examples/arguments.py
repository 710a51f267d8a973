"""What the command lines of the examples have in common: their parser, and numbers that are good.

Nothing here takes long to import, so that bad arguments are answered at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from typing_extensions import override


class Parser(argparse.ArgumentParser):
    """Parse arguments, and answer bad ones in one line.

    >>> Parser(prog="digits", usage="digits [options]").parse_args([])
    Namespace()
    """

    @override
    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")  # the usage would be several lines more


def parser_of(prog: str, description: str, epilog: str) -> Parser:
    """Make the parser of the example `fengine.examples.PROG`."""
    return Parser(
        prog=prog,
        usage=f"python -m fengine.examples.{prog} [options]",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_option(
    parser: Parser, option: str, kind: Callable[[str], object], default: object, text: str
) -> None:
    """Add an option such as "--epochs N", whose help says what it is by default."""
    name, _, metavar = option.partition(" ")
    text = f"{text} (default: {default})"
    parser.add_argument(name, metavar=metavar, type=kind, default=default, help=text)


def require_installed(parser: Parser, needed: Mapping[str, str]) -> None:
    """Leave with an error that names what is not installed.

    Args:
        parser: tells the error.
        needed: the module of each package.
    """
    missing = [name for name, module in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        parser.error(f"{' and '.join(missing)} not found; run: pip install 'fengine[demo]'")


def require_writable(parser: Parser, folder: Path) -> None:
    """Make a folder if need be, or leave with an error that says why it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        parser.error(f"argument --out: cannot write to {folder}: {error.strerror}")


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number of a range.

    >>> whole_number(1, 9)("3")
    3
    """

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number from {least} to {most}"
            )
        return number

    return parse


def part_of_one(text: str) -> float:
    """Read a number above 0 and at most 1.

    >>> part_of_one("0.5")
    0.5
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most 1")
    return number


def exit_code(prog: str, run: Callable[[], int]) -> int:
    """Run an example, and give its exit code: also where it is interrupted, or cannot write.

    >>> exit_code("digits", lambda: 0)
    0
    """
    try:
        return run()
    except KeyboardInterrupt:
        print(f"\n{prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Nobody reads the lines any more, so the last of them cannot be flushed at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 1
