"""Measure fengine beside a loop by hand and other frameworks: `python -m tests.benchmarks`.

Everything is compared in one run, on this machine and with this Python. What is not installed is
left out. `--check` measures what the project's targets are about and makes a missed one an error.
`--before` compares with another checkout of fengine instead.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks import footprint, identity, report, scaling
from tests.benchmarks.before import measure_before
from tests.benchmarks.effort import FULL, QUICK, TINY, Effort
from tests.benchmarks.pythons import interpreter, measure_pythons
from tests.benchmarks.sections import Section
from tests.benchmarks.systems import installed, missing, setting
from tests.benchmarks.versions import sources


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write files, and give the exit status."""
    options = _parser().parse_args(arguments)
    have = installed()
    for line in missing(have):
        print(line, file=sys.stderr)
    sections = []
    for section in (
        [measure_before(options.effort, have, options.before)]
        if options.before
        else _measure(options.effort, have, options.check, options.also, options.compiled)
    ):
        print(section.title, file=sys.stderr, flush=True)
        sections.append(section)
    panels = [] if options.check else [panel for section in sections for panel in section.panels]
    picture = options.png if panels and "matplotlib" in have else None
    if picture:
        from tests.benchmarks.plots import draw

        draw(panels, picture)
    link = os.path.relpath(picture, (options.markdown or picture).parent) if picture else None
    text = (
        report.targets(sections)
        if options.check
        else "\n".join(report.document([*setting(have)], link, sections))
    )
    print(text, end="")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    reached = all(target.reached for section in sections for target in section.targets)
    return 1 if options.check and not reached else 0


def _measure(
    effort: Effort, have: frozenset[str], check: bool, also: Sequence[str], compiled: bool
) -> Iterator[Section]:
    yield identity.measure(effort, have)
    yield identity.measure_epochs(effort, have)
    if "torch" in have:
        import torch

        from tests.benchmarks import distributed, ensembles, features, functional, supervised

        torch.set_num_threads(1)
        yield supervised.measure_training(effort, have)
        yield supervised.measure_evaluation(effort, have)
        if not check:
            yield features.measure_features(effort, have)
            yield from distributed.measure_distributed(effort, have)
        yield functional.measure_functional(effort)
        yield functional.measure_functional_memory(effort)
        yield ensembles.measure_ensembles(effort, compiled=compiled)
    yield footprint.measure_imports(effort, have)
    yield footprint.measure_memory(effort, have)
    if not check:
        yield from scaling.measure_scaling(effort, have)
        if also:
            yield measure_pythons(effort, also)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument(
        "--quick",
        dest="effort",
        action="store_const",
        const=QUICK,
        default=FULL,
        help="measure less, for a look",
    )
    effort.add_argument(
        "--tiny",
        dest="effort",
        action="store_const",
        const=TINY,
        default=FULL,
        help="measure next to nothing, to see that everything runs",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    instead.add_argument(
        "--before",
        type=sources,
        metavar="PATH",
        help="another checkout of fengine, or its folder src, to compare this one with in turns",
    )
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        type=interpreter,
        metavar="PYTHON",
        help="another interpreter to measure in, with what the core imports",
    )
    parser.add_argument(
        "--compiled",
        action="store_true",
        help="measure compiled ensembles, too, which takes minutes to compile",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write what is printed here")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw a picture here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
