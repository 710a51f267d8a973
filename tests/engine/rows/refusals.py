"""The calls that an engine refuses, as data: rows E-01 to E-49, what is raised, what is said."""

from __future__ import annotations

from enum import Enum
from typing import Final, final

import attrs
import numpy as np
from typing_extensions import override

from tests.engine.rows.calls import (
    Call,
    Indexed,
    Unsized,
    add,
    cut_early,
    empty_group,
    engine_of,
    event,
    forbidden_interrupt,
    load,
    one,
    register,
    remove_unknown,
    run,
    run_again,
    save_without_attribute,
    three,
    without_iterator,
)
from tests.engine.rows.sides import AS_IGNITE, IGNITE, SIDES, Side

OF_0_5_5: Final = (AS_IGNITE, IGNITE)


class Plain(Enum):
    TICK = "tick"


@final
@attrs.frozen
class Refusal:
    """A call that is refused.

    Args:
        row: the id of its row.
        what: tells it from others of the row.
        call: does it, on a side.
        error: what is raised.
        words: what the message contains.
        by: who refuses it; for the others it succeeds.
    """

    row: str
    what: str
    call: Call
    error: type[Exception]
    words: tuple[str, ...]
    by: tuple[Side, ...] = SIDES

    @override
    def __str__(self) -> str:
        return f"{self.row} {self.what}"


TWICE = {"max_epochs": 3, "epoch": 2, "iteration": 4, "epoch_length": 2}
AT_FOUR = {"max_iters": 9, "iteration": 4, "epoch": 2, "epoch_length": 2}
V, T, R = ValueError, TypeError, RuntimeError

REFUSALS: Final = [
    # Engine
    Refusal("E-01", "None", engine_of(None), V, ("process_function is None",)),
    Refusal("E-02", "one", engine_of(one), V, ("process_function", "(engine", "one")),
    Refusal("E-02", "three", engine_of(three), V, ("process_function", "'c'")),
    Refusal("E-03", "engine", engine_of(7), T, ("process_function=7", "int")),
    Refusal("E-03", "handler", add(7), T, ("handler=7", "int")),
    Refusal("E-04", "engine", engine_of(max), V, ("process_function", "max")),
    Refusal("E-04", "handler", add(max), V, (), (IGNITE,)),
    # Events and handlers
    Refusal("E-05", "text", register("a", event_to_attr="b"), V, ("event_to_attr='b'", "str")),
    *(
        Refusal("E-06", str(value), register(value), T, (repr(value), "string"), OF_0_5_5)
        for value in (None, 1, 1.5, (1, 2), Plain.TICK)
    ),
    Refusal("E-06", "class", register(Plain), T, ("Plain",)),
    Refusal("E-06", "list", register([1]), T, ("[1]",)),
    Refusal(
        "E-07",
        "add",
        lambda side: side.engine().add_event_handler("no", print),
        V,
        ("'no'", "register_events"),
    ),
    Refusal("E-07", "on", lambda side: side.engine().on("no")(print), V, ("'no'",)),
    Refusal("E-08", "too few", add(three), V, ("three", "missing")),
    Refusal("E-08", "too many", add(one, "STARTED", 1, 2), V, ("one", "(engine, 1, 2)")),
    Refusal("E-08", "name", add(one, rate=1), V, ("one", "rate=1")),
    Refusal("E-09", "none", add(lambda: None, "EXCEPTION_RAISED"), V, ("exception",)),
    Refusal("E-09", "three", add(three, "EXCEPTION_RAISED"), V, ("three", "exception")),
    Refusal("E-10", "none", add(lambda: None, "TERMINATE_SINGLE_EPOCH"), V, ("iter_counter",)),
    Refusal(
        "E-11",
        "one of two",
        lambda side: side.engine().add_event_handler(
            side.events.STARTED | side.package.CallableEventWithFilter("no", name="NO"), print
        ),
        V,
        ("NO", "register_events"),
    ),
    Refusal("E-12", "unknown", lambda side: side.engine().fire_event("no"), V, ("'no'",)),
    Refusal(
        "E-12",
        "list",
        lambda side: side.engine().fire_event(side.events.STARTED | side.events.COMPLETED),
        V,
        ("STARTED | ", "register_events"),
    ),
    Refusal(
        "E-14",
        "no handlers",
        lambda side: side.engine().remove_event_handler(print, side.events.STARTED),
        V,
        ("'print'", "STARTED", "not registered"),
    ),
    Refusal("E-15", "another", remove_unknown, V, ("'print'", "STARTED", "not registered")),
    # Filters
    Refusal("E-17", "nothing", event(), V, ("exactly one", "every=None")),
    Refusal("E-17", "two", event(every=2, once=3), V, ("every=2", "once=3")),
    Refusal("E-17", "three", event(event_filter=max, before=2), V, ("before=2", "max")),
    Refusal("E-18", "number", event(event_filter=7), T, ("event_filter=7", "int")),
    *(Refusal("E-19", repr(n), event(every=n), V, (f"every={n!r}",)) for n in (0, -1, 1.5, "2")),
    *(
        Refusal("E-20", repr(counts), event(once=counts), V, (f"once={counts!r}",))
        for counts in (0, -1, 1.5, [], [1, 0], [1.5], "12", {1}, np.int64(3), [np.int64(3)])
    ),
    *(Refusal("E-21", repr(n), event(before=n), V, (f"before={n!r}",)) for n in (-1, 1.5, "2")),
    *(Refusal("E-22", repr(n), event(after=n), V, (f"after={n!r}",)) for n in (-1, 1.5, "2")),
    Refusal("E-23", "one", event(event_filter=one), V, ("event_filter", "'one'")),
    Refusal("E-24", "text", lambda side: side.events.STARTED | "x", T, ("'x'", "str")),
    Refusal("E-24", "number", lambda side: side.events.STARTED | 7, T, ("7", "int")),
    Refusal("E-24", "to text", lambda side: "x" | side.events.STARTED, T, ()),
    Refusal(
        "E-24",
        "list",
        lambda side: side.events.STARTED | (side.events.STARTED | side.events.COMPLETED),
        T,
        (),
        (IGNITE,),
    ),
    Refusal(
        "E-25",
        "value",
        lambda side: side.package.State().get_event_attrib_value(side.events.TERMINATE),
        R,
        ("TERMINATE", "event_to_attr"),
    ),
    # Runs
    Refusal("E-26", "forbidden", forbidden_interrupt, R, ("interrupt_resume_enabled",)),
    Refusal("E-27", "run", cut_early("STARTED"), R, ("terminate_epoch", "STARTED"), OF_0_5_5),
    Refusal(
        "E-27", "epoch", cut_early("EPOCH_STARTED"), R, ("terminate_epoch", "STARTED"), OF_0_5_5
    ),
    Refusal("E-28", "number", run(7), T, ("data=7", "int")),
    Refusal("E-28", "by index", run(Indexed()), T, ("data=", "Indexed")),
    Refusal("E-29", "both", run([1], 2, max_iters=3), V, ("max_epochs=2", "max_iters=3")),
    Refusal(
        "E-30", "iterations", run([1], max_iters=3, state=TWICE), V, ("max_iters=3", "max_epochs=3")
    ),
    Refusal("E-31", "epochs", run([1], 3, state=AT_FOUR), V, ("max_epochs=3", "max_iters=9")),
    Refusal("E-32", "epochs", run([1], 0, state=TWICE), V, ("max_epochs=0", "at least 1")),
    Refusal("E-32", "iterations", run([1], max_iters=0, state=AT_FOUR), V, ("max_iters=0",)),
    Refusal("E-33", "epochs", run([1], 1, state=TWICE), V, ("max_epochs=1", "2")),
    Refusal("E-33", "iterations", run([1], max_iters=3, state=AT_FOUR), V, ("max_iters=3", "4")),
    Refusal("E-34", "new", run(), V, ("data", "epoch_length")),
    Refusal("E-34", "going on", run(state={"max_epochs": 3}), V, ("data", "epoch_length")),
    Refusal("E-35", "given", run([1], epoch_length=0), V, ("epoch_length is 0", "at least 1")),
    Refusal("E-35", "negative", run([1], epoch_length=-1), V, ("epoch_length is -1",)),
    Refusal("E-35", "empty", run([]), V, ("length of data list", "0"), OF_0_5_5),
    Refusal(
        "E-36", "other", run([1], epoch_length=5, state=TWICE), V, ("epoch_length=5", "length=2")
    ),
    Refusal("E-37", "other error", run(Unsized(RuntimeError("no length"))), R, ("no length",)),
    Refusal("E-38", "in a run", run_again, V, ("running already",)),
    Refusal("E-39", "no iterator", without_iterator, R, ("_dataloader_iter", "_setup_engine")),
    Refusal("E-40", "number", lambda side: side.engine().set_data(7), T, ("int",)),
    # State dicts
    Refusal(
        "E-41", "both", load(iteration=1, epoch=1, epoch_length=1, max_epochs=2), V, ("epoch",)
    ),
    Refusal("E-42", "None", load(epoch=1, epoch_length=None, max_epochs=2), V, ("epoch=1", "None")),
    Refusal("E-42", "0", load(iteration=1, epoch_length=0, max_epochs=2), V, ("epoch_length=0",)),
    Refusal("E-42", "absent", load(iteration=1, max_epochs=2), V, ("'epoch_length'",)),
    Refusal(
        "E-42", "unknown yet", load(iteration=1, epoch_length=None, max_epochs=2), V, (), (IGNITE,)
    ),
    Refusal("E-43", "number", load(7), T, ("state_dict=7", "int")),
    Refusal("E-43", "list", load([("iteration", 1)]), T, ("list",)),
    Refusal("E-44", "length", load(iteration=0, max_epochs=2), V, ("'epoch_length'",)),
    Refusal("E-44", "counter", load(epoch_length=2, max_epochs=2), V, ("iteration", "epoch")),
    Refusal("E-45", "none", load(iteration=0, epoch_length=2), V, ("max_epochs", "max_iters")),
    Refusal(
        "E-45",
        "both",
        load(iteration=0, epoch_length=2, max_epochs=2, max_iters=2),
        V,
        ("max_epochs", "max_iters"),
    ),
    Refusal("E-46", "empty", empty_group, V, ("[]",)),
    Refusal(
        "E-47",
        "rate",
        load(None, "rate", iteration=0, epoch_length=2, max_epochs=2),
        V,
        ("'rate'",),
    ),
    Refusal("E-48", "epochs", load(epoch=2, epoch_length=2, max_epochs=1), V, ("max_epochs=1",)),
    Refusal("E-48", "0", load(epoch=0, epoch_length=2, max_epochs=0), V, ("max_epochs=0",)),
    Refusal("E-48", "iterations", load(iteration=9, epoch_length=2, max_iters=3), V, ("=3", "9")),
    Refusal("E-49", "rate", save_without_attribute, AttributeError, ("'rate'",)),
]
