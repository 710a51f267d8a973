"""The command `python -m fengine.checkpoints FOLDER`: what is kept, and whether it is whole."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path, PurePath

from fengine.checkpoints.errors import CheckpointError, NewerFormat
from fengine.checkpoints.folder import Folder, folder_at
from fengine.checkpoints.retention import Kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of what a folder keeps.

    Returns:
        0 where all is whole, 1 where something is broken, 2 where there is nothing.
    """
    parser = argparse.ArgumentParser(
        prog="python -m fengine.checkpoints", description="List the checkpoints in a folder."
    )
    parser.add_argument("folder", help="a folder, or an address such as s3://bucket/run")
    parser.add_argument("--verify", action="store_true", help="read all files, and compare digests")
    parser.add_argument(
        "--remove-broken", action="store_true", help="delete what is broken (implies --verify)"
    )
    options = parser.parse_args(arguments)
    if "://" not in options.folder and not Path(options.folder).is_dir():
        print(f"{options.folder}: is no folder", file=sys.stderr)
        return 2
    folder = folder_at(options.folder)
    broken = dict(folder.broken())
    kept = folder.kept()
    if options.verify or options.remove_broken:
        broken |= _broken_files(folder, kept)
    if not kept and not broken:
        print(f"{options.folder}: holds no checkpoint", file=sys.stderr)
        return 2
    whole = "intact" if options.verify or options.remove_broken else "listed"
    rows = [
        (
            one.path.name,
            str(one.epoch),
            str(one.ranks),
            _metrics(one),
            _size(one),
            _age(one),
            broken.get(one.path, whole),
        )
        for one in kept
    ]
    rows += [
        (path.name, "", "", "", "", "", reason)
        for path, reason in sorted(broken.items())
        if path not in {one.path for one in kept}
    ]
    _print_table([("step", "epoch", "ranks", "metrics", "size", "age", "state"), *rows])
    if options.remove_broken and broken:
        return _remove(folder, sorted(path.name for path in broken))
    return 1 if broken else 0


def _broken_files(folder: Folder, kept: Sequence[Kept]) -> dict[PurePath, str]:
    found: dict[PurePath, str] = {}
    for one in kept:
        try:
            folder.verify(one.path.name)
        except CheckpointError as error:
            found[one.path] = error.reason
    return found


def _remove(folder: Folder, names: Sequence[str]) -> int:
    try:
        folder.open()
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 1
    code = 0
    for name in names:
        try:
            folder.verify(name)
        except NewerFormat as error:
            print(f"not removed: {error}", file=sys.stderr)
            code = 1
        except CheckpointError:
            folder.remove(name)
            print(f"removed {name}")
    folder.close()
    return code


def _metrics(one: Kept) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in sorted(one.metrics.items()))


def _size(one: Kept) -> str:
    size, unit = float(one.size), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size >= 1024:
            size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _age(one: Kept) -> str:
    seconds = max(0, int(time.time() - one.time))
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


if __name__ == "__main__":
    sys.exit(main())
