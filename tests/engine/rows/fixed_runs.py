"""Defects of runs and of their state in pytorch-ignite that the Engine does not have."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any, Final

import attrs

from tests.engine.rows.records import fixed
from tests.engine.rows.sides import (
    Side,
    Tale,
    fail,
    identity,
    interrupt,
    outcome,
    put,
    take,
)

FIXED: Final = fixed()


@attrs.frozen
class Unsized:
    """Data of a length that it does not say, which can be iterated again."""

    length: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.length))


def stop_iteration(*args: Any) -> None:
    raise StopIteration


def count_call(engine: Any) -> None:
    engine.state.calls = getattr(engine.state, "calls", 0) + 1


@FIXED(
    "C1 Q-01",
    "the run after one that raised",
    ("runs nothing and returns None", None),
    ("is a whole run", 2),
)
def after_an_exception(side: Side) -> object:
    told = Tale(side, {"P1": fail})
    told.run()
    state = told.engine.run([0, 1])
    return state if state is None else state.iteration


@FIXED(
    "C2 Q-03",
    "an exception where a handler of EXCEPTION_RAISED has been removed",
    ("is lost", "State"),
    ("leaves the run", "Fault"),
)
def after_a_removed_handler(side: Side) -> object:
    engine = side.engine(fail)
    with engine.add_event_handler(side.events.EXCEPTION_RAISED, take):
        pass
    return outcome(lambda: type(engine.run([1])).__name__)


@FIXED(
    "C4 Q-05 R-15",
    "a handler of EXCEPTION_RAISED that raises what it got",
    ("is called twice", "S ES BS BC IS E E !Fault"),
    ("is called once", "S ES BS BC IS E !Fault"),
)
def raised_again(side: Side) -> object:
    return Tale(side, {"P1": fail}, fail).run()


@FIXED(
    "C5 R-17",
    "a StopIteration of the process function",
    ("becomes a RuntimeError", "RuntimeError"),
    ("stays itself", "StopIteration"),
)
def stop_in_the_step(side: Side) -> object:
    return outcome(side.engine(stop_iteration).run, [1])


@FIXED(
    "C6 Q-04",
    "a StopIteration of a handler of GET_BATCH_STARTED",
    ("is taken for the end of the data", (1, 1)),
    ("leaves the run", ("StopIteration", None)),
)
def stop_in_a_handler(side: Side) -> object:
    engine = side.engine()
    engine.add_event_handler(
        side.events.GET_BATCH_STARTED(lambda engine, count: count == 1), stop_iteration
    )
    ran = outcome(lambda: engine.run(iter([0, 1, 2])).iteration)
    return ran, engine.state.epoch_length


@FIXED(
    "C9",
    "handlers of a `deepcopy` of an engine",
    ("get the original", (2, None)),
    ("get the copy", (1, 1)),
)
def copied(side: Side) -> object:
    engine = side.engine()
    engine.add_event_handler(side.events.COMPLETED, count_call)
    engine.run([1])
    engine.state.max_epochs = None
    twin = copy.deepcopy(engine)
    twin.state.calls = 0
    twin.run([1])
    return engine.state.calls, twin.state.calls or None


@FIXED(
    "C10 Q-17",
    "`pickle` of an engine with handlers, filtered ones among them",
    ("raises TypeError or AttributeError", (False, False)),
    ("gives an engine that runs", (1, 1)),
)
def pickled(side: Side) -> object:
    ran: list[object] = []
    for event in (side.events.COMPLETED, side.events.COMPLETED(every=1, before=3)):
        engine = side.engine(identity)
        engine.add_event_handler(event, count_call)
        try:
            ran.append(pickle.loads(pickle.dumps(engine)).run([1]).calls)
        except (TypeError, AttributeError):
            ran.append(False)
    return tuple(ran)


@FIXED(
    "C15 Q-06",
    "`run(data, 5)` in a handler of the same engine",
    ("raises ValueError, and has changed the limit of the outer run", ("ValueError", 5)),
    ("raises EngineRunningError, and changes nothing", ("EngineRunningError", 1)),
)
def run_inside(side: Side) -> object:
    raised: list[object] = []
    told = Tale(side, {"IS1": lambda engine: raised.append(outcome(engine.run, [7], 5))})
    told.run([0], 1)
    return raised[0], told.engine.state.epoch


@FIXED(
    "C17",
    "`interrupt_resume_enabled = False`",
    (
        "runs another copy of the loop, where a StopIteration stays itself",
        ["RuntimeError", "StopIteration"],
    ),
    ("forbids `interrupt`, and changes nothing else", ["StopIteration", "StopIteration"]),
)
def without_interrupt(side: Side) -> object:
    able, unable = side.engine(stop_iteration), side.engine(stop_iteration)
    unable.interrupt_resume_enabled = False
    assert outcome(unable.interrupt) == "RuntimeError"
    return [outcome(engine.run, [1]) for engine in (able, unable)]


@FIXED(
    "D5",
    "an engine that runs unsized data of 3 batches, and then of 10",
    ("takes 3 of the 10", [3, 3]),
    ("takes all 10", [3, 10]),
)
def unsized(side: Side) -> object:
    engine = side.engine()
    return [engine.run(iter(range(length))).iteration for length in (3, 10)]


@FIXED(
    "D6 C-05",
    "`run(data, None, 100)`",
    ("runs 100 iterations, once this was `epoch_length`", 100),
    ("raises TypeError: both are given by name", "TypeError"),
)
def third_argument(side: Side) -> object:
    return outcome(lambda: side.engine().run([1], None, 100).iteration)


@FIXED(
    "D7",
    "a checkpoint written before the epoch length is known",
    ("cannot be loaded", "ValueError"),
    ("is loaded, and the run goes on", 10),
)
def unknown_length(side: Side) -> object:
    written = {"epoch_length": None, "iteration": 3, "max_epochs": 2}
    engine = side.engine()
    return outcome(lambda: engine.load_state_dict(written) or engine.run(range(5)).iteration)


@FIXED(
    "D19 Q-08",
    "`run(data, max_iters=3)` twice, over unsized data",
    ("the second raises ValueError", [3, "ValueError"]),
    ("both run", [3, 3]),
)
def iterations_twice(side: Side) -> object:
    engine = side.engine()
    return [outcome(lambda: engine.run(Unsized(2), max_iters=3).iteration) for _ in range(2)]


@FIXED(
    "Q-02",
    "an interrupted run that another one replaces",
    ("calls handlers of EXCEPTION_RAISED with a GeneratorExit", ["GeneratorExit"]),
    ("ends without a word", []),
)
def replaced(side: Side) -> object:
    raised: list[str] = []
    told = Tale(side, {"IC1": interrupt}, lambda engine, error: raised.append(type(error).__name__))
    told.run()
    told.engine.state.max_epochs = None
    told.run()
    return raised


@FIXED(
    "Q-09",
    "a `load_state_dict` that is refused",
    ("leaves the state half written", ("ValueError", 5)),
    ("changes nothing", ("ValueError", 0)),
)
def refused(side: Side) -> object:
    engine = side.engine()
    written = {"epoch_length": 2, "iteration": 5, "max_epochs": 1}
    return outcome(engine.load_state_dict, written), engine.state.iteration


@FIXED(
    "Q-16",
    "`load_state_dict` while a run is interrupted",
    ("goes on inside the old epoch", (3, 7)),
    ("goes on from what is loaded", (3, 6)),
)
def loaded_in_between(side: Side) -> object:
    told = Tale(side, {"IC1": interrupt})
    told.run([0, 1], 3)
    told.engine.load_state_dict({"epoch_length": 2, "iteration": 4, "max_epochs": 3})
    told.run([0, 1], 3)
    return told.engine.state.epoch, told.engine.state.iteration


@FIXED(
    "Q-22",
    "`set_data` of something that is not iterable",
    ("raises TypeError, and has replaced the data", ("TypeError", 7)),
    ("raises TypeError", ("TypeError", None)),
)
def no_data(side: Side) -> object:
    engine = side.engine()
    return outcome(engine.set_data, 7), engine.state.dataloader


@FIXED(
    "Q-27 D14",
    "a checkpoint with `iteration` -7",
    ("is loaded", -7),
    ("raises ValueError", "ValueError"),
)
def negative(side: Side) -> object:
    engine = side.engine()
    written = {"epoch_length": 2, "iteration": -7, "max_epochs": 3}
    return outcome(lambda: engine.load_state_dict(written) or engine.state.iteration)


@FIXED(
    "Q-30",
    "a run for iterations whose data has no more",
    ("never ends", "Fault"),
    ("ends with a warning", "W EC T C"),
)
def endless(side: Side) -> object:
    words = Tale(side, {"ES50": fail}).run(iter([0, 1, 2]), max_iters=10, epoch_length=4)
    return "Fault" if "!Fault" in words else words[words.index("W") :]


@FIXED(
    "R-21",
    "`max_iters` set below the iteration, in a handler",
    ("is overlooked until the epoch ends", 3),
    ("ends the run at once", 2),
)
def limit_behind(side: Side) -> object:
    told = Tale(side, {"IC2": put(max_epochs=None, max_iters=1)})
    told.run([0, 1, 2])
    return told.engine.state.iteration
