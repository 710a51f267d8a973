"""Strategies: programs in which something is likely to go wrong.

What changes the course of a run is drawn more often than the rest, and most runs are possible
after those before them. The parts are made once; making them at each draw takes most of the time.
"""

from __future__ import annotations

from typing import Final, get_args

import attrs
from hypothesis import strategies as st

from fengine import IGNITE_0_5_5
from tests.engine.differential.batches import Data, Kind
from tests.engine.differential.deeds import (
    CUSTOM,
    OWN_EVENTS,
    TICK,
    TOCK,
    Ask,
    Attach,
    Deed,
    Filter,
    Fire,
    Flag,
    Give,
    Listen,
    Listener,
    Load,
    Pause,
    Put,
    Remove,
    Restore,
    RunInside,
    Save,
    Stop,
    Throw,
    Tick,
)
from tests.engine.differential.player import play
from tests.engine.differential.program import (
    EVENTS,
    LOOP_EVENTS,
    Act,
    Answer,
    Program,
    Run,
)
from tests.engine.differential.sides import MendedSide

# These hand something to their handlers, which a firing by hand cannot.
_WITH_ARGUMENTS: Final = ("exception_raised", "terminate_single_epoch")
_FIRABLE: Final = tuple(name for name in EVENTS if name not in _WITH_ARGUMENTS)

# More often filtered than the rest.
_COUNTED: Final = (
    "started",
    "epoch_started",
    "epoch_completed",
    "iteration_started",
    "iteration_completed",
    TICK,
)

_coin: Final = st.booleans()
_FILTERS: Final[list[Filter]] = [
    *[()] * 3,
    *((("every", number),) for number in (2, 1, 3)),
    *((("once", number),) for number in (1, 2, 3, (1, 2), (2, 5))),
    *((("before", number),) for number in (2, 0, 3)),
    *((("after", number),) for number in (0, 1, 2)),
    (("before", 5), ("after", 1)),
    (("every", 2), ("after", 1)),
    (("every", 2), ("before", 5)),
    *[(("event_filter", "odd"),)] * 3,
]
_listeners: Final = st.builds(
    Listener,
    st.lists(st.sampled_from([*LOOP_EVENTS, TICK, TOCK, *_COUNTED]), min_size=1, max_size=3).map(
        tuple
    ),
    st.sampled_from(_FILTERS),
    st.booleans(),
).filter(lambda listener: not listener.bare or not {*listener.events} & {*_WITH_ARGUMENTS})
_datas: Final = st.builds(
    Data,
    st.sampled_from(get_args(Kind)),
    st.sampled_from([2, 3, 1, 2, 3, 4, 0]),
    st.sampled_from([3, 1, 2, 5, 0]),
    st.sampled_from([None] * 7 + [0, 1, 2, 4]),
)
_PUTS: Final = [
    *(Put(name, value) for name in ("batch", "output") for value in ("put", None)),
    *(
        Put(name, value)
        for name in ("max_epochs", "max_iters", "epoch_length")
        for value in (None, None, 0, 1, 2, 3, 4, 6)
    ),
    *(Put(name, value) for name in ("epoch", "iteration") for value in range(7)),
    *(Put(name, value) for name in ("ticks", "alpha") for value in (0, 1, 5)),
    Put("dataloader", None),
]
_FLAGS: Final = [
    Flag("should_terminate", True),
    Flag("should_terminate", "skip_completed"),
    Flag("should_terminate", False),
    Flag("should_terminate_single_epoch", True),
    Flag("should_terminate_single_epoch", "skip_epoch_completed"),
    Flag("should_terminate_single_epoch", False),
    Flag("should_interrupt", True),
    Flag("should_interrupt", False),
]
_stops: Final = st.sampled_from(
    [Stop(method, skip) for method in ("terminate_epoch", "terminate") for skip in (False, True)]
)
_pauses: Final = st.just(Pause())
_throws: Final = st.sampled_from([Throw(kind) for kind in ("error", "stop", "keyboard", "exit")])
_fires: Final = st.sampled_from(
    [Fire(CUSTOM), Fire(TOCK), Tick(), Tick(), *(Fire(name) for name in _FIRABLE)]
)
_asks: Final = st.sampled_from(
    [
        *(Listen(name, listen) for name in EVENTS for listen in (True, False)),
        *(Ask(name) for name in EVENTS),
        *[Remove(0), Remove(1)] * 5,
    ]
)
_progress: Final = st.sampled_from([Save(), Save(), Restore(), RunInside()])
_loads: Final = st.builds(
    Load,
    st.sampled_from(["iteration", "epoch"]),
    st.sampled_from([0, 1, 2, 3, 4, 5, -1]),
    st.sampled_from(["max_epochs", "max_iters"]),
    st.sampled_from([None, 3, 1, 2, 4, 5, 6, 7, 0]),
    st.sampled_from([None, 2, 3, 1, 4, 0]),
    st.sampled_from([True, True, True, False]),
)
_deeds: Final[st.SearchStrategy[Deed]] = st.one_of(
    _stops,
    _pauses,
    _throws,
    _stops,
    _pauses,
    _throws,
    _fires,
    st.sampled_from(_PUTS),
    st.sampled_from(_FLAGS),
    _asks,
    st.builds(Give, _datas, st.sampled_from(["dataloader", "set_data"])),
    st.one_of(_progress, _loads, st.builds(Attach, _listeners)),
)
_before_a_run: Final = st.one_of(
    *[st.just(())] * 3,
    st.lists(st.one_of(_deeds, _deeds, _loads, _progress), min_size=1, max_size=2).map(tuple),
)

_EPOCHS: Final = [(epochs, None) for epochs in (2, 1, 3)]
_ITERATIONS: Final = [(None, iterations) for iterations in range(1, 8)]
_NEITHER: Final = [(None, None)]
_ODD: Final = [(0, None), (None, 0), (2, 2)]
_by_epochs: Final = st.sampled_from([*_EPOCHS * 7, *_NEITHER * 20, *_ITERATIONS, *_ODD])
_by_iterations: Final = st.sampled_from([*_ITERATIONS * 3, *_NEITHER * 20, *_EPOCHS * 2, *_ODD])
_length: Final = st.sampled_from([None, None, None, 1, 2, 3, 4])
_another_length: Final = st.sampled_from(["none"] * 4 + ["same"] * 3 + [0, 1, 2, 3, 4, 5])
_calls: Final = st.sampled_from([2, 1, 2, 3, 4])


@st.composite
def _runs(draw: st.DrawFn) -> tuple[Run, ...]:
    """Generate calls of run, most of which are possible after those before them."""
    limits = draw(st.sampled_from([_by_epochs, _by_iterations]))
    length = draw(_length)
    calls = []
    for number in range(draw(_calls)):
        data = draw(_datas)
        given = draw(_another_length) if number else length
        if data.kind == "none" and number == 0 and length is None:
            given = data.size
        given = {"none": None, "same": length}.get(given, given)  # type: ignore[arg-type]
        calls.append(Run(data, *draw(limits), given, draw(_before_a_run)))
    return tuple(calls)


_quiet: Final = st.one_of(
    *[st.just(frozenset[str]())] * 2, st.frozensets(st.sampled_from(LOOP_EVENTS))
)
_answers: Final = st.one_of(
    st.just(()), st.lists(st.sampled_from(get_args(Answer)), min_size=1, max_size=2).map(tuple)
)


_without_acts: Final = st.builds(
    Program,
    _runs(),
    st.just(()),
    _quiet,
    _answers,
    _coin,
    st.lists(_listeners, max_size=2).map(tuple),
    _coin,
    st.sampled_from([True] * 7 + [False]),
)
_rounds: Final = st.sampled_from([2, 1, 2, 3, 4, 0])
_some_deeds: Final = st.lists(_deeds, min_size=1, max_size=2)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Generate programs whose acts take place: each where the program comes by without it."""
    program = draw(_without_acts)
    for _ in range(draw(_rounds)):
        firings = play(program, _SIDE).firings
        for deed in draw(_some_deeds) if firings else ():
            rare = sorted(firings.keys() & _RARE)
            place = draw(st.sampled_from([*sorted(firings), *rare, *rare]))
            firing = draw(st.integers(1, min(firings[place], 4)))
            program = attrs.evolve(program, acts=(*program.acts, Act(place, firing, deed)))
    return program


_SIDE: Final = MendedSide(IGNITE_0_5_5)
_RARE: Final = frozenset(
    {
        "dataloader_stop_iteration",
        "exception_raised",
        "interrupt",
        "terminate",
        "terminate_single_epoch",
        *OWN_EVENTS,
    }
)
