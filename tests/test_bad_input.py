"""What a Loop refuses, and how it says so: each row is a mistake, each answer names it."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import attrs
import pytest
import torch
from immutables import Map
from torch.utils.data import DataLoader

import fengine
from fengine import DataExhausted, Events, Loop, State, features, last_state
from fengine.core.describe import brief

AnyState = State[Any, Any, Any]
AnyLoop = Loop[Any, Any, Any]

# What is called wrongly here, on purpose, is hidden from the type checker.
api: Any = fengine
Event, PayloadEvent, Limits, Requests = api.Event, api.PayloadEvent, api.Limits, api.Requests
after, before, every, once, where = api.after, api.before, api.every, api.once, api.where
compose, focus, tap, when = api.compose, api.focus, api.tap, api.when
evaluation: Any = features.evaluation
outputs, stages = api.outputs, api.stages
make_loader: Any = DataLoader
ITERATION: Any = Events.ITERATION_STARTED


def identity(batch: object) -> object:
    return batch


def same(state: AnyState) -> AnyState:
    return state


def bool_of(state: AnyState) -> bool:
    return True


LOOP: Any = Loop(outputs(identity))


class Row(NamedTuple):
    """A mistake: what is done, the error it raises, and words that its message contains."""

    do: Callable[[], object]
    error: type[BaseException]
    words: tuple[str, ...]


def check(row: Row) -> None:
    """Make the mistake; the words may stand in the notes too, which say where."""
    with pytest.raises(row.error) as raised:
        row.do()
    said = "\n".join([str(raised.value), *getattr(raised.value, "__notes__", ())])
    missing = [word for word in row.words if word not in said]
    assert not missing, f"{missing} not in: {said}"


def rows(**table: Row) -> pytest.MarkDecorator:
    """Make one test of each row, with its name."""
    return pytest.mark.parametrize("row", table.values(), ids=table)


# A handler that returns no state.


class OtherState(NamedTuple):
    iteration: int = 0


async def asynchronous(state: AnyState) -> AnyState:
    return state


def awaiting(state: AnyState) -> Any:
    coroutine = asynchronous(state)
    coroutine.close()
    return coroutine


def generating(state: AnyState) -> Iterator[AnyState]:
    yield state


def returning(value: object) -> Callable[..., Any]:
    def log_loss(state: AnyState, payload: object = None) -> Any:
        return value

    return log_loss


def run_with(handler: Any, event: Any = Events.EPOCH_COMPLETED) -> Callable[[], object]:
    return lambda: LOOP.on(event, handler).run([1, 2, 3], max_epochs=2)


NO_STATE = ("log_loss (test_bad_input.py:", "EPOCH_COMPLETED", "epoch 1, iteration 3")


@attrs.frozen
class Part:
    limit: float = 1.0


@rows(
    none=Row(run_with(returning(None)), TypeError, (*NO_STATE, "None", "forget 'return state'")),
    false=Row(run_with(returning(False)), TypeError, (*NO_STATE, "bool")),
    tuple=Row(run_with(returning((1,))), TypeError, (*NO_STATE, "tuple")),
    dict=Row(run_with(returning({})), TypeError, (*NO_STATE, "dict")),
    other_state=Row(run_with(returning(OtherState())), TypeError, (*NO_STATE, "OtherState")),
    coroutine=Row(run_with(awaiting), TypeError, ("awaiting", "coroutine", "async")),
    async_function=Row(
        run_with(asynchronous), TypeError, ("asynchronous", "async", "EPOCH_COMPLETED")
    ),
    generator=Row(run_with(generating), TypeError, ("generating", "generator", "yield")),
    payload=Row(
        run_with(returning(None), Events.EXITED), TypeError, ("log_loss", "EXITED", "None")
    ),
    compose=Row(
        run_with(compose(same, returning(None))), TypeError, ("log_loss", "None", "EPOCH_COMPLETED")
    ),
    when=Row(
        run_with(when(bool_of, returning(3))), TypeError, ("log_loss", "int", "EPOCH_COMPLETED")
    ),
    focus=Row(
        lambda: LOOP.on(Events.STARTED, focus("limit", returning(None))).run([1], user=Part()),
        TypeError,
        ("log_loss", "None", "STARTED"),
    ),
    step=Row(
        lambda: Loop(returning(None)).run([1]),
        TypeError,
        ("log_loss", "NoneType", "outputs", "the step"),
    ),
)
def test_a_handler_that_returns_no_state(row: Row) -> None:
    check(row)


# What cannot be called with a state.


def two(state: AnyState, more: int) -> AnyState:
    return state


def none() -> AnyState:
    return State()


def keyword_only(*, state: AnyState) -> AnyState:
    return state


class Methods:
    def bound(self, state: AnyState) -> AnyState:
        return state

    def unfit(self) -> AnyState:
        return State()

    def __call__(self, state: AnyState) -> AnyState:
        return state


def on(handler: Any, event: Any = Events.STARTED) -> Callable[[], object]:
    return lambda: LOOP.on(event, handler)


@rows(
    two=Row(on(two), TypeError, ("STARTED", "two", "(state", "more")),
    none=Row(on(none), TypeError, ("STARTED", "none", "()")),
    keyword_only=Row(on(keyword_only), TypeError, ("STARTED", "keyword_only")),
    partial=Row(on(functools.partial(none)), TypeError, ("STARTED", "none")),
    partial_taken=Row(on(functools.partial(same, State())), TypeError, ("STARTED", "same")),
    bound=Row(on(Methods().unfit), TypeError, ("STARTED", "Methods.unfit")),
    a_class=Row(on(Methods), TypeError, ("STARTED", "Methods", "class")),
    instance=Row(on(object()), TypeError, ("STARTED", "object")),
    string=Row(on("same"), TypeError, ("STARTED", "'same'", "str")),
    missing=Row(on(None), TypeError, ("STARTED", "None")),
    no_payload=Row(on(same, Events.EXITED), TypeError, ("EXITED", "same", "payload")),
    payload=Row(on(two, Events.STARTED), TypeError, ("STARTED", "two")),
    without_state=Row(on(lambda: None), TypeError, ("STARTED", "<lambda>")),
    step=Row(lambda: api.Loop(none), TypeError, ("step", "none", "state")),
    outputs=Row(lambda: outputs(none), TypeError, ("outputs", "none", "batch")),
    stages=Row(lambda: stages(none), TypeError, ("stage", "none", "state")),
    then=Row(lambda: stages(same).then(none), TypeError, ("stage", "none", "value")),
    tap=Row(lambda: tap(lambda a, b, c: 0), TypeError, ("effect", "<lambda>", "state")),
    tap_of_a_payload=Row(on(tap(two)), TypeError, ("STARTED", "tap(", "two", "state")),
    when_of_a_payload=Row(
        on(compose(same, when(two, same))), TypeError, ("STARTED", "when(", "two", "state")
    ),
    when=Row(lambda: when(none, same), TypeError, ("predicate", "none", "state")),
    when_handler=Row(lambda: when(bool_of, none), TypeError, ("handler", "none", "state")),
    focus=Row(lambda: focus("part", none), TypeError, ("handler", "none", "state")),
    focus_field=Row(lambda: focus(3, same), TypeError, ("focus", "3")),
    evaluation=Row(lambda: evaluation(same, []), TypeError, ("evaluation", "Loop", "same")),
)
def test_what_cannot_be_called_with_a_state(row: Row) -> None:
    check(row)


class Raising:
    def __call__(self, state: AnyState) -> AnyState:
        raise AssertionError("not at registration")


FIT = {
    "partial": functools.partial(two, more=1),
    "nothing_taken": functools.partial(same),
    "bound_method": Methods().bound,
    "instance": Methods(),
    "unbound_method": State.terminate,
    "lambda": lambda state: state,
    "default": lambda state, extra=None: state,
    "starred": lambda *states: states[0],
    "wrapped": functools.lru_cache(same),
    "builtin": max,
    "raising": Raising(),
}


@pytest.mark.parametrize("handler", FIT.values(), ids=FIT)
def test_whatever_takes_a_state_is_accepted(handler: Any) -> None:
    assert LOOP.on(Events.STARTED, handler).table.registrations[0].handler is handler


@pytest.mark.parametrize("function", [float, str, torch.tensor, len], ids=brief)
def test_a_class_may_make_an_output(function: Any) -> None:
    assert Loop(outputs(function)).run(["1"] if function is not torch.tensor else [1]).has_output
    assert Loop(stages(lambda state: "1").then(float)).run([1]).output == 1.0


# What is no event of this loop.

CHUNK = Event("chunk_started")


@rows(
    unregistered=Row(
        on(same, CHUNK), ValueError, ("Event('chunk_started')", "EPOCH_STARTED", "register(")
    ),
    string=Row(on(same, "epoch_startd"), TypeError, ("'epoch_startd'", "str", "Events")),
    unhashable=Row(on(same, ["started"]), TypeError, ("['started']", "list", "Events")),
    none=Row(on(same, None), TypeError, ("None", "Events")),
    function=Row(on(same, same), TypeError, ("same", "function", "Events")),
    filter=Row(on(same, every(2)), TypeError, ("every(2)", "Events")),
    of_another_registry=Row(
        lambda: LOOP.register(CHUNK).on(Event("chunk_started", attr="chunk"), same),
        ValueError,
        ("Event('chunk_started', attr='chunk')", "Event('chunk_started')"),
    ),
    like_a_built_in=Row(lambda: Event("started"), ValueError, ("started", "Events.STARTED")),
    joined=Row(on(same, Events.STARTED | CHUNK), ValueError, ("Event('chunk_started')",)),
    joined_string=Row(lambda: api.Events.STARTED | "chunk", TypeError, ("|", "str")),
    joined_payload=Row(
        lambda: api.Events.STARTED | Events.EXITED, TypeError, ("|", "PayloadEvent")
    ),
    register_string=Row(lambda: LOOP.register("chunk"), TypeError, ("'chunk'", "str", "Event(")),
    register_clash=Row(
        lambda: LOOP.register(Event("mine")).register(Event("mine", attr="x")),
        ValueError,
        ("Event('mine', attr='x')", "Event('mine')"),
    ),
    emit_string=Row(lambda: stages(same).emit("chunk"), TypeError, ("'chunk'", "str")),
    emit_built_in=Row(lambda: stages(same).emit(Events.STARTED), ValueError, ("STARTED", "own")),
    emit_twice=Row(lambda: stages(same).emit(CHUNK).emit(CHUNK), ValueError, ("chunk_started",)),
    name=Row(lambda: Event("chunk started"), ValueError, ("name", "'chunk started'")),
    name_type=Row(lambda: Event(3), TypeError, ("name", "3", "int")),
    attr=Row(lambda: PayloadEvent("chunk", attr="a b"), ValueError, ("attr", "'a b'")),
    without=Row(lambda: LOOP.without(Events.STARTED, same), ValueError, ("same", "STARTED")),
    without_filter=Row(
        lambda: LOOP.on(Events.STARTED, same).without(Events.STARTED(once=1), same),
        ValueError,
        ("same", "STARTED", "once(1)"),
    ),
)
def test_what_is_no_event_of_this_loop(row: Row) -> None:
    check(row)


# Filters that are wrong, or can never hold.


def answering(value: object) -> Callable[[AnyState], Any]:
    def is_late(state: AnyState) -> Any:
        return value

    return is_late


def breaking(state: AnyState) -> bool:
    raise KeyError("loss")


@rows(
    every_0=Row(lambda: ITERATION(every=0), ValueError, ("every", "0")),
    every_negative=Row(lambda: ITERATION(every=-1), ValueError, ("every", "-1")),
    every_true=Row(lambda: ITERATION(every=True), TypeError, ("every", "True", "bool")),
    every_float=Row(lambda: ITERATION(every=2.5), TypeError, ("every", "2.5", "float")),
    every_string=Row(lambda: every("2"), TypeError, ("every", "'2'", "str")),
    once_0=Row(lambda: ITERATION(once=0), ValueError, ("once", "0")),
    once_empty=Row(lambda: ITERATION(once=[]), ValueError, ("once",)),
    once_float=Row(lambda: once(1, 2.0), TypeError, ("once", "2.0", "float")),
    after_negative=Row(lambda: after(-1), ValueError, ("after", "-1")),
    before_1=Row(lambda: before(1), ValueError, ("before", "1")),
    after_before=Row(lambda: ITERATION(after=5, before=5), ValueError, ("never", "6", "5")),
    every_before=Row(lambda: ITERATION(every=7, before=7), ValueError, ("never", "7")),
    disjoint=Row(lambda: once(3) & every(2), ValueError, ("once(3)", "every(2)", "never")),
    strides=Row(lambda: every(2) & every(2, after=2), ValueError, ("every(2)", "never")),
    negated=Row(lambda: ~every(1), ValueError, ("~every(1)", "never")),
    no_criterion=Row(ITERATION, ValueError, ("every=", "once=")),
    span=Row(lambda: every(2, of="batch"), ValueError, ("of", "'batch'")),
    span_of_event=Row(
        lambda: Events.EPOCH_STARTED(every=2, of="epoch"), ValueError, ("EPOCH_STARTED", "epoch")
    ),
    only_firing=Row(lambda: Events.STARTED(every=2), ValueError, ("STARTED", "every(2)")),
    predicate=Row(lambda: ITERATION(bool_of), TypeError, ("bool_of", "when=")),
    predicate_arity=Row(lambda: ITERATION(when=none), TypeError, ("none", "state")),
    number=Row(lambda: ITERATION(3), TypeError, ("3", "int", "every=")),
    no_bool=Row(
        run_with(same, ITERATION(when=answering(1))),
        TypeError,
        ("is_late", "1", "int", "ITERATION_STARTED", "epoch 1, iteration 1"),
    ),
    no_bool_tensor=Row(
        run_with(same, ITERATION(when=answering(torch.tensor(True)))),
        TypeError,
        ("is_late", "tensor(True)", "Tensor"),
    ),
    raising=Row(
        run_with(same, ITERATION(where(breaking) & every(2))),
        KeyError,
        ("loss", "filter", "ITERATION_STARTED", "epoch 1, iteration 2"),
    ),
)
def test_filters_that_are_wrong(row: Row) -> None:
    check(row)


# Loops and handlers are values, so that there is nothing to change or to tie up.


def test_registering_during_a_run_changes_nothing() -> None:
    calls: list[int] = []
    loop: AnyLoop = LOOP

    def growing(state: AnyState) -> AnyState:
        nonlocal loop
        calls.append(state.iteration)
        loop = loop.on(Events.ITERATION_COMPLETED, growing).on(Events.COMPLETED, growing)
        return state

    loop = running = loop.on(Events.ITERATION_COMPLETED, growing)
    loop.run([1, 2, 3])
    assert calls == [1, 2, 3]
    assert len(running.table.registrations) == 1
    assert len(loop.table.registrations) == 7


def test_removing_during_a_run_changes_nothing() -> None:
    calls: list[int] = []

    def removing(state: AnyState) -> AnyState:
        assert not loop.without(Events.ITERATION_COMPLETED, counting).table.registrations[1:]
        return state

    def counting(state: AnyState) -> AnyState:
        calls.append(state.iteration)
        return state

    loop = LOOP.on(Events.ITERATION_COMPLETED, removing).on(Events.ITERATION_COMPLETED, counting)
    loop.run([1, 2, 3])
    assert calls == [1, 2, 3]


def test_a_deep_composition_is_flat() -> None:
    deep = compose()
    for _ in range(300):
        deep = compose(deep, add_one)
    wide = compose(*[add_one] * 5_000)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        assert deep(State(user=0)).user == 300
        assert wide(State(user=0)).user == 5_000
    finally:
        sys.setrecursionlimit(limit)
    assert compose(add_one) is add_one
    state: AnyState = State(user=0)
    assert compose()(state) is state


def test_no_composition_contains_itself() -> None:
    handlers = [same]
    join = compose(*handlers, same)
    handlers.append(join)
    assert join(State()) == State()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        join.handlers = (join,)


def add_one(state: AnyState) -> AnyState:
    return state.evolve(user=state.user + 1)


def test_a_loop_runs_inside_its_own_handler() -> None:
    traces: list[tuple[int, int]] = []

    def nested(state: AnyState) -> AnyState:
        if state.user > 0:
            inner = loop.run([10, 20], user=state.user - 1)
            assert (inner.iteration, inner.output) == (2, 20)
        traces.append((state.user, state.iteration))
        return state

    loop: AnyLoop = LOOP.on(Events.ITERATION_COMPLETED, nested)
    final = loop.run([1, 2], user=1)
    assert traces == [(0, 1), (0, 2), (1, 1), (0, 1), (0, 2), (1, 2)]
    assert (final.iteration, final.output, final.user) == (2, 2, 1)


def test_one_loop_runs_twice_at_once() -> None:
    one, other = LOOP.iterate([1, 2, 3]), LOOP.iterate([1, 2, 3])
    turns = [(next(one), next(other)) for _ in range(10)]
    assert all(a == b for a, b in turns)


# Nothing in a state can be changed in place.

FROZEN = attrs.exceptions.FrozenInstanceError
SOME: Any = api.State(output=1, metrics={"loss": 0.5}, counts={"chunk": 1})
SOME = SOME.with_attribute("time", 1)


def assign(target: Any, name: str) -> Callable[[], object]:
    return lambda: setattr(target, name, 1)


def delete(target: Any, name: str) -> Callable[[], object]:
    return lambda: delattr(target, name)


def put(target: Any) -> Callable[[], object]:
    return lambda: target.__setitem__("loss", 0.1)


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(State)])
def test_a_state_is_frozen(name: str) -> None:
    for change in (assign(SOME, name), delete(SOME, name)):
        with pytest.raises(FROZEN):
            change()
    assert getattr(SOME, name) == getattr(attrs.evolve(SOME), name)


@rows(
    misspelt=Row(assign(SOME, "iterations"), AttributeError, ()),
    property=Row(assign(SOME, "output"), AttributeError, ()),
    limits=Row(assign(SOME.limits, "max_epochs"), FROZEN, ()),
    requests=Row(assign(SOME.requests, "terminate"), FROZEN, ()),
    status=Row(assign(SOME, "status"), FROZEN, ()),
    loop=Row(assign(LOOP, "step"), FROZEN, ()),
    loop_deleted=Row(delete(LOOP, "table"), FROZEN, ()),
    event=Row(assign(Events.STARTED, "name"), FROZEN, ()),
    filter=Row(assign(every(2), "step"), FROZEN, ()),
    metrics=Row(put(SOME.metrics), AttributeError, ("__setitem__",)),
    counts=Row(put(SOME.counts), AttributeError, ("__setitem__",)),
    attributes=Row(put(SOME.attributes), AttributeError, ("__setitem__",)),
    evolve_unknown=Row(lambda: SOME.evolve(outptu=1), TypeError, ("outptu",)),
    evolve_counter=Row(lambda: SOME.evolve(iteration=1), TypeError, ("iteration",)),
    attribute_of_the_loop=Row(
        lambda: SOME.with_attribute("epoch", 1), ValueError, ("epoch", "loop keeps")
    ),
    attribute_no_int=Row(
        lambda: SOME.with_attribute("time", 1.5), TypeError, ("time", "1.5", "int")
    ),
    recover=Row(lambda: SOME.recover("skip"), TypeError, ("'skip'", "SKIP_BATCH", "END_RUN")),
    no_output=Row(
        lambda: State(epoch=2).output, AttributeError, ("output", "epoch 2", "ITERATION_COMPLETED")
    ),
    no_batch=Row(
        lambda: State(iteration=3).batch,
        AttributeError,
        ("batch", "iteration 3", "GET_BATCH_COMPLETED"),
    ),
)
def test_nothing_can_be_changed_in_place(row: Row) -> None:
    check(row)


def test_a_mapping_given_to_a_state_is_copied() -> None:
    metrics = {"loss": 0.5}
    state: AnyState = api.State(metrics=metrics)
    later = state.evolve(metrics=metrics)
    metrics["loss"] = 0.1
    assert state.metrics == later.metrics == Map({"loss": 0.5})


# Limits.


def end_at_last(state: AnyState) -> AnyState:
    raise AssertionError("the run does not end by itself")


BOUNDED = LOOP.on(Events.ITERATION_COMPLETED(once=100), end_at_last)


def limited(**limits: Any) -> Callable[[], object]:
    return lambda: LOOP.run([1, 2], **limits)


@rows(
    epochs_0=Row(limited(max_epochs=0), ValueError, ("max_epochs", "0")),
    epochs_negative=Row(limited(max_epochs=-1), ValueError, ("max_epochs", "-1")),
    epochs_float=Row(limited(max_epochs=2.5), TypeError, ("max_epochs", "2.5", "float")),
    epochs_true=Row(limited(max_epochs=True), TypeError, ("max_epochs", "True", "bool")),
    epochs_string=Row(limited(max_epochs="3"), TypeError, ("max_epochs", "'3'", "str")),
    iters_0=Row(limited(max_iters=0), ValueError, ("max_iters", "0")),
    iters_float=Row(limited(max_iters=2.0), TypeError, ("max_iters", "2.0", "float")),
    length_0=Row(limited(epoch_length=0), ValueError, ("epoch_length", "0")),
    length_string=Row(limited(epoch_length="all"), TypeError, ("epoch_length", "'all'", "str")),
    both=Row(
        limited(max_epochs=2, max_iters=5), ValueError, ("max_epochs=2", "max_iters=5", "one")
    ),
    limits=Row(lambda: Limits(max_epochs=0), ValueError, ("max_epochs", "0")),
    resume_without=Row(
        lambda: BOUNDED.resume(State(), [1, 2]), ValueError, ("max_epochs", "max_iters")
    ),
    beside_after=Row(
        lambda: LOOP.iterate([1], after=State(limits=Limits(max_epochs=1)), max_epochs=2),
        TypeError,
        ("after", "max_epochs"),
    ),
)
def test_limits_that_are_none(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("number", [10**18, 10**30])
@pytest.mark.parametrize("limit", ["max_epochs", "max_iters"])
def test_a_limit_may_be_huge(limit: str, number: int) -> None:
    loop = LOOP.on(Events.ITERATION_COMPLETED(once=5), State.terminate)
    assert loop.run([1, 2], **{limit: number}).iteration == 5
    assert loop.run(epoch_length=number).iteration == 5
    assert getattr(loop.run([1, 2], **{limit: number}).limits, limit) == number


def test_the_default_is_one_epoch() -> None:
    assert LOOP.run([1, 2], max_epochs=None, max_iters=None, epoch_length=None).epoch == 1


# Data.


@attrs.frozen
class Sized:
    """Say one length and give another number of batches."""

    says: Any
    gives: int

    def __len__(self) -> Any:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.gives))


@attrs.define
class Growing:
    """Say another length each time that it is asked."""

    length: int = 1

    def __len__(self) -> int:
        self.length += 1
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(range(2))


class Items:
    """Be the data set of a DataLoader that breaks at its second item."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        if index == 1:
            raise self.error
        return index


class NoIterator:
    def __iter__(self) -> Any:
        return 3


class Unstarted:
    def __iter__(self) -> Iterator[int]:
        raise StopIteration("of the user")


def failing(at: int, error: BaseException) -> Iterator[int]:
    for batch in range(3):
        if batch == at:
            raise error
        yield batch


def run_on(data: Any, **limits: Any) -> Callable[[], object]:
    return lambda: LOOP.run(
        data() if callable(data) and not isinstance(data, type) else data, **limits
    )


@rows(
    empty_list=Row(run_on([]), ValueError, ("data", "empty", "list", "0")),
    empty_generator=Row(run_on(lambda: iter(())), DataExhausted, ("data", "empty")),
    empty_loader=Row(run_on(lambda: make_loader([])), ValueError, ("data", "empty", "DataLoader")),
    empty_sized=Row(run_on(Sized(2, 0)), DataExhausted, ("data", "empty")),
    empty_with_length=Row(
        run_on(lambda: iter(()), epoch_length=3), DataExhausted, ("data", "empty")
    ),
    short_generator=Row(
        run_on(lambda: iter(range(4)), epoch_length=3, max_epochs=3),
        DataExhausted,
        ("data", "4 of 9", "max_epochs", "epoch 2, iteration 4"),
    ),
    short_iterations=Row(
        run_on(lambda: iter(range(4)), max_iters=5), DataExhausted, ("data", "4 of 5")
    ),
    length_raises=Row(run_on(Sized(RuntimeError("no length"), 1)), RuntimeError, ("no length",)),
    length_negative=Row(run_on(Sized(-1, 1)), ValueError, ("length", "data", "-1")),
    length_float=Row(run_on(Sized(2.5, 1)), TypeError, ("length", "data", "2.5", "float")),
    length_bool=Row(run_on(Sized(True, 1)), TypeError, ("length", "data", "True", "bool")),
    iter_raises=Row(run_on(Unstarted()), RuntimeError, ("StopIteration", "epoch 1, iteration 0")),
    item_value_error=Row(
        run_on(lambda: failing(2, ValueError("broken"))),
        ValueError,
        ("broken", "fetching a batch", "epoch 1, iteration 2"),
    ),
    item_key_error=Row(
        run_on(lambda: failing(0, KeyError("image"))),
        KeyError,
        ("image", "fetching a batch", "epoch 1, iteration 0"),
    ),
    item_memory_error=Row(
        run_on(lambda: failing(1, MemoryError())),
        MemoryError,
        ("fetching a batch", "epoch 1, iteration 1"),
    ),
    loader_that_fails=Row(
        run_on(lambda: make_loader(Items(OSError("gone")))),
        OSError,
        ("gone", "fetching a batch", "iteration 1"),
    ),
    none=Row(run_on(None), TypeError, ("data", "None", "epoch_length")),
    int=Row(run_on(3), TypeError, ("data", "3", "int")),
    string=Row(run_on("batches"), TypeError, ("data", "str")),
    bytes=Row(run_on(b"batches"), TypeError, ("data", "bytes")),
    dict=Row(run_on({"x": 1}), TypeError, ("data", "dict")),
    map=Row(run_on(Map({"x": 1})), TypeError, ("data", "Map")),
    no_iterator=Row(run_on(NoIterator()), TypeError, ("iter()", "int", "the data", "epoch 1")),
    a_class=Row(run_on(list), TypeError, ("data", "class", "list")),
    function=Row(lambda: LOOP.run(same), TypeError, ("data", "same", "function")),
)
def test_data_that_is_none(row: Row) -> None:
    check(row)


@pytest.mark.parametrize(
    ("data", "epochs", "numbers"),
    [
        pytest.param(Sized(3, 2), 1, ("3", "2"), id="D3_too_large"),
        pytest.param(Sized(3, 2), 3, ("3", "2"), id="D3_too_large_often"),
        pytest.param(Growing(), 3, ("2", "3"), id="D3_changing"),
        pytest.param(
            make_loader(Items(StopIteration()), batch_size=None),
            1,
            ("3", "1"),
            id="D4_item",
        ),
    ],
)
def test_a_wrong_length_is_reported_once_with_both_numbers(
    data: Any, epochs: int, numbers: tuple[str, ...]
) -> None:
    with pytest.warns(UserWarning, match="epoch_length") as warned:
        LOOP.run(data, max_epochs=epochs)
    assert len(warned) == 1
    said = str(warned[0].message)
    assert all(number in said for number in (*numbers, "data"))


def test_too_few_batches_are_reported_before_a_pause_and_not_again_after_it() -> None:
    paused = LOOP.on(Events.DATALOADER_STOP_ITERATION(once=1), State.interrupt)
    with pytest.warns(UserWarning, match="said that it has 3 batches, but it gave 2"):
        state = paused.run(Sized(3, 2), max_iters=3)
    # Warnings are errors here.
    assert (state.iteration, state.epoch) == (2, 2)
    assert paused.resume(state, Sized(3, 2), replay=True).iteration == 3


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_run_goes_on_from_the_item_that_failed(position: int) -> None:
    with pytest.raises(ValueError, match="broken") as raised:
        LOOP.run(failing(position, ValueError("broken")), epoch_length=3)
    state: Any = last_state(raised.value)
    assert state.iteration == position
    final = LOOP.resume(state, [0, 1, 2])
    assert (final.iteration, final.output) == (3, 2)


def test_a_run_that_goes_on_says_how_many_batches_it_got() -> None:
    paused = LOOP.on(Events.ITERATION_COMPLETED(once=2), State.interrupt)
    batches = iter(range(3))
    state = paused.run(batches, max_iters=9, epoch_length=9)
    with pytest.raises(DataExhausted, match="3 of 9") as raised:
        LOOP.resume(state, batches)
    assert (raised.value.got, raised.value.wanted) == (3, 9)


def test_a_run_that_goes_on_after_a_cut_epoch_says_how_many_batches_it_got() -> None:
    cut = LOOP.on(Events.ITERATION_COMPLETED(once=2), State.terminate_epoch)
    moments = cut.iterate(iter(range(2)), max_epochs=2, epoch_length=3)
    cuts = [m.state for m in moments_until_error(moments) if m.event.name.startswith("terminate")]
    with pytest.raises(DataExhausted, match="2 of 6"):
        LOOP.resume(cuts[0], iter(()))


def moments_until_error(moments: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from moments
    except DataExhausted:
        return


def test_requests_are_compared_as_values() -> None:
    assert State(requests=Requests()) == State()
