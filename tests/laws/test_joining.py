"""Laws of joining loops and of putting handlers in order."""

from __future__ import annotations

from itertools import permutations
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fengine import (
    IGNITE_0_5_5,
    Event,
    EventRegistry,
    Events,
    Loop,
    State,
    Table,
    outputs,
    stages,
    tap,
)
from fengine.core.handler_order import ordered
from fengine.core.registration import Registration

AnyLoop: TypeAlias = Loop[Any, Any, Any]


def named(name: str) -> Any:
    def handler(state: State[Any, Any, Any]) -> State[Any, Any, Any]:
        return state.evolve(user=(*(state.user or ()), name))

    handler.__qualname__ = name
    return handler


def doubled(state: State[Any, Any, Any]) -> Any:
    return 2 * state.batch


HANDLERS = {name: named(name) for name in "abcdef"}
EVENTS: st.SearchStrategy[Any] = st.sampled_from(
    [Events.STARTED, Events.EPOCH_COMPLETED(every=2), Events.COMPLETED]
)


@st.composite
def handlers_only(draw: st.DrawFn) -> AnyLoop:
    known = EventRegistry((Event("loaded"),))
    loop: AnyLoop = draw(st.sampled_from([AnyLoop(), AnyLoop(registry=known)]))
    for name in draw(st.lists(st.sampled_from(sorted(HANDLERS)), max_size=3)):
        loop = loop.on(draw(EVENTS), HANDLERS[name])
    if draw(st.booleans()):
        loop = loop.register(Event("chunk"))
    return loop


@given(handlers_only(), handlers_only(), handlers_only(), st.integers(0, 3))
def test_joining_is_associative_and_an_empty_loop_changes_nothing(
    a: AnyLoop, b: AnyLoop, c: AnyLoop, with_step: int
) -> None:
    loops = [a, b, c]
    if with_step < 3:
        own = loops[with_step]
        step: AnyLoop = Loop(outputs(abs), semantics=IGNITE_0_5_5)
        loops[with_step] = step | own
        assert loops[with_step].table == own.table
    a, b, c = loops
    assert (a | b) | c == a | (b | c)
    for loop in loops:
        assert loop | Loop() == loop == Loop() | loop


@given(handlers_only(), handlers_only())
def test_joined_handlers_run_in_the_order_of_the_loops(a: AnyLoop, b: AnyLoop) -> None:
    def seen(loop: AnyLoop) -> Any:
        return (AnyLoop(outputs(abs)) | loop).run([1], user=(), max_epochs=2).user

    both = seen(a | b)
    assert sorted(both) == sorted([*seen(a), *seen(b)])
    for event in (Events.STARTED, Events.COMPLETED):
        names = [one.handler for one in (a | b).table.in_order().get(event.name, ())]
        assert names == [
            one.handler for loop in (a, b) for one in loop.table.in_order().get(event.name, ())
        ]


def test_a_conflict_names_both_sides() -> None:
    with pytest.raises(ValueError, match=r"step=outputs\(abs\), the other outputs\(round\)"):
        AnyLoop(outputs(abs)) | AnyLoop(outputs(round))
    with pytest.raises(ValueError, match=r"DOCUMENTED.*IGNITE_0_5_5"):
        Loop(outputs(abs)) | Loop(outputs(abs), semantics=IGNITE_0_5_5)
    a, b = Event("chunk"), Event("chunk", attr="chunk")
    with pytest.raises(ValueError, match=r"Event\('chunk', attr='chunk'\).*Event\('chunk'\)"):
        Loop(outputs(abs)).register(a) | Loop().register(b)


def test_the_events_of_the_step_are_known_to_what_is_joined() -> None:
    halved = Event("halved")
    loop = AnyLoop(stages(lambda state: state.batch / 2).emit(halved).then(round))
    joined = loop | AnyLoop().register(halved).on(halved, HANDLERS["a"])
    assert joined.run([1, 2], user=()).user == ("a", "a")


def test_a_registry_is_one() -> None:
    wrong: Any = (Event("loaded"),)
    with pytest.raises(TypeError, match=r"registry=.*is not an EventRegistry"):
        AnyLoop(registry=wrong)


def test_a_loop_without_a_step_does_not_run() -> None:
    with pytest.raises(ValueError, match="no step to run"):
        Loop[int, int, None]().run([1])
    with pytest.raises(ValueError, match="no step to run"):
        Loop[int, int, None]().iterate([1])  # at once, not at the first moment
    with pytest.raises(ValueError, match="without a step"):
        Loop[int, int, None](semantics=IGNITE_0_5_5)


def test_what_is_neither_a_loop_nor_a_feature_is_not_joined() -> None:
    loop: Any = Loop(outputs(abs))
    with pytest.raises(TypeError, match="unsupported operand"):
        loop | 3
    # Handlers, each of which a call with a loop shows to be no feature in a way of its own.
    with pytest.raises(AttributeError) as raised:
        loop | State.terminate
    assert "A handler is added by loop.on(event, handler)" in raised.value.__notes__[0]
    with pytest.raises(
        TypeError, match=r"is a handler, which takes a State, .*loop\.on\(event, tap\("
    ):
        loop | tap(print)
    with pytest.raises(TypeError, match=r"returned None .*added by loop\.on\(event, handler\)"):
        loop | (lambda state: None)


# Order


@st.composite
def wishes(draw: st.DrawFn) -> list[Registration[Any, Any, Any]]:
    """Generate registrations with wishes that some order of the handlers keeps."""
    kept = draw(st.permutations(sorted(HANDLERS)))
    made = []
    for name in draw(st.lists(st.sampled_from(sorted(HANDLERS)), max_size=6)):
        place = kept.index(name)
        before = draw(st.sets(st.sampled_from(kept[place + 1 :]))) if kept[place + 1 :] else set()
        after = draw(st.sets(st.sampled_from(kept[:place]))) if place else set()
        made.append(
            Registration[Any, Any, Any](
                Events.STARTED,
                None,
                HANDLERS[name],
                tuple(HANDLERS[other] for other in sorted(before)),
                tuple(HANDLERS[other] for other in sorted(after)),
            )
        )
    return made


@given(wishes())
def test_every_wish_is_kept_and_nothing_else_moves(made: list[Registration[Any, Any, Any]]) -> None:
    result = ordered(made)
    assert sorted(map(id, result)) == sorted(map(id, made))
    places = [one.handler for one in result]
    for one in result:
        for other in result:
            here, there = result.index(one), result.index(other)
            if other.handler in one.runs_before:
                assert here < there
            if other.handler in one.runs_after:
                assert there < here
    assert [one.handler for one in ordered(result)] == places
    if not any(one.runs_before or one.runs_after for one in made):
        assert list(result) == made


@pytest.mark.parametrize("names", list(permutations("abc")), ids="".join)
def test_a_circle_is_refused_with_its_path(names: tuple[str, ...]) -> None:
    a, b, c = (HANDLERS[name] for name in names)
    loop = AnyLoop(outputs(abs)).on(Events.STARTED, a, runs_before=b)
    loop = loop.on(Events.STARTED, b, runs_before=(c,))
    with pytest.raises(ValueError, match="runs before") as raised:
        loop.on(Events.STARTED, c, runs_before=a)
    # Every one of them is in the path, which ends where it began.
    path = str(raised.value).split(": ")[1].split("; ")[0].split(" runs before ")
    assert {step.split()[0] for step in path} == set(names)
    assert path[0] == path[-1]
    # Elsewhere the same wish is no circle.
    assert loop.on(Events.COMPLETED, c, runs_before=a).run([1], user=()).user == names


def test_whoever_is_named_may_come_later_but_must_come() -> None:
    a, b = HANDLERS["a"], HANDLERS["b"]
    loop = AnyLoop(outputs(abs)).on(Events.STARTED, a, runs_after=b)
    with pytest.raises(ValueError, match="not registered; register it, or leave runs_after out"):
        loop.run([1], user=())
    assert loop.on(Events.STARTED(once=1), b).run([1], user=()).user == ("b", "a")
    with pytest.raises(TypeError, match="runs_before names handlers; 3 is not callable"):
        loop.on(Events.STARTED, b, runs_before=3)  # type: ignore[call-overload]
    assert loop.on(Events.STARTED, b, runs_before=a).without(Events.STARTED, b) == loop


def test_a_loop_prints_who_runs_when() -> None:
    halved = Event("halved")
    loop = (
        AnyLoop(stages(doubled).emit(halved).then(abs))
        .on(Events.COMPLETED, HANDLERS["c"])
        .on(halved(every=3), HANDLERS["a"], runs_after=HANDLERS["b"])
        .on(halved, HANDLERS["b"])
    )
    places = [line.split(" (")[0] for line in str(loop).splitlines()]
    assert places == [
        "Loop of stages(doubled",
        "  Event('halved')",
        "    1. b",
        "    2. a",
        "  Events.COMPLETED",
        "    1. c",
    ]
    assert str(AnyLoop()) == "Loop without a step"


def test_tables_and_registries_are_values() -> None:
    one = Registration[Any, Any, Any](Events.STARTED, None, HANDLERS["a"])
    assert Table[Any, Any, Any]().adding(one) == Table[Any, Any, Any]((one,))
    assert hash(Table[Any, Any, Any]().adding(one)) == hash(Table[Any, Any, Any]((one,)))
    a, b = Event("a"), Event("b")
    assert EventRegistry((a, b)) == EventRegistry((b, a))
    assert hash(EventRegistry((a, b))) == hash(EventRegistry((b, a)))
    assert tap(print) == tap(print)
