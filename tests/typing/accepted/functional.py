"""The functional API as it is meant to be used: all of it checks, and the types are as said."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple, assert_type

import attrs

from fengine import (
    DOCUMENTED,
    END_EPOCH,
    Event,
    Events,
    EventSet,
    Filter,
    Handler,
    Limits,
    Loop,
    Moment,
    Outcome,
    PayloadEvent,
    PayloadHandler,
    Recovery,
    State,
    after,
    before,
    compose,
    every,
    focus,
    last_state,
    once,
    outputs,
    stages,
    tap,
    when,
    where,
)

Batch = list[float]


@attrs.frozen
class Best:
    loss: float = math.inf


@attrs.frozen
class Progress:
    best: Best
    epochs: int


Mine = State[Batch, float, Best]


def train_on(batch: Batch) -> float:
    return sum(batch)


def keep_best(state: Mine) -> Mine:
    return state.evolve(user=Best(min(state.user.loss, state.output)))


def stop_when_good(state: Mine) -> Mine:
    return state.terminate() if state.user.loss < 0.01 else state


def report(state: Mine) -> None:
    assert state.metrics["loss"] >= 0


def keep_sum(state: State[Batch, float, float]) -> State[Batch, float, float]:
    return state.evolve(user=state.user + state.output).with_metric("sum", state.user)


def answer(state: Mine, error: BaseException) -> Mine:
    return state.recover(END_EPOCH) if isinstance(error, OverflowError) else state


def note(state: Mine, outcome: Outcome) -> Mine:
    assert outcome.error is None
    return state


# The example of the guide.

summing = Loop[Batch, float, float](outputs(train_on)).on(Events.ITERATION_COMPLETED, keep_sum)
loop = (
    Loop[Batch, float, Best](outputs(train_on))
    .on(Events.ITERATION_COMPLETED, keep_best)
    .on(Events.EPOCH_COMPLETED(every=2) | Events.COMPLETED, tap(report))
    .on(Events.EPOCH_COMPLETED, stop_when_good)
    .on(Events.EXCEPTION_RAISED, answer)
    .on(Events.EXITED, note)
)
final = loop.run([[1.0], [2.0]], user=Best(), max_epochs=10)
assert_type(final, State[Batch, float, Best])
assert_type(summing.run([[1.0]], user=0.0).user, float)
assert_type(final.user.loss, float)
assert_type(final.output, float)
assert_type(final.batch, Batch)
for moment in loop.iterate([[1.0]], user=Best(), max_iters=10):
    assert_type(moment, Moment[Batch, float, Best])
    again = loop.resume(moment.state, [[1.0]])
    assert_type(again, State[Batch, float, Best])
    rest = list(loop.iterate([[1.0]], after=moment.state))

# A user's record may be an attrs class, a dataclass or a named tuple; without one there is none.


@dataclasses.dataclass(frozen=True)
class Counted:
    epochs: int = 0


class Tallied(NamedTuple):
    epochs: int = 0


def add_epoch(state: State[Batch, float, int]) -> State[Batch, float, int]:
    return state.evolve(user=state.user + 1)


counting = Loop[Batch, float, Counted](outputs(train_on)).on(
    Events.EPOCH_COMPLETED, focus("epochs", add_epoch)
)
assert_type(counting.run([[1.0]], user=Counted()).user.epochs, int)
tallying = Loop[Batch, float, Tallied](outputs(train_on)).on(
    Events.EPOCH_COMPLETED, focus("epochs", add_epoch)
)
whole = Loop[Batch, float, Progress](outputs(train_on))
whole = whole.on(Events.EPOCH_COMPLETED, focus("epochs", add_epoch))
whole = whole.on(Events.ITERATION_COMPLETED, focus("best", keep_best))
assert_type(whole.run([[1.0]], user=Progress(Best(), 0)).user.best.loss, float)

without = Loop(outputs(train_on)).run([[1.0]])
assert_type(without, State[Batch, float, None])
assert_type(without.user, None)

# Stages: each is checked against the last, and an event between them may carry its value.

forwarded = PayloadEvent[float]("forwarded")
updated = Event("updated")


def forward(state: Mine) -> float:
    return train_on(state.batch) + state.user.loss


def backward(loss: float) -> int:
    return round(loss)


def update(steps: int) -> float:
    return float(steps)


def clip(state: Mine, loss: float) -> Mine:
    return state.with_metric("loss", loss)


course = stages(forward).emit(forwarded).then(backward).emit(updated).then(update)
staged = (
    Loop[Batch, float, Best](course)
    .on(forwarded, clip)
    .on(forwarded(every=10), clip)
    .on(updated | Events.ITERATION_COMPLETED(every=2, of="epoch"), keep_best)
    .without(forwarded, clip)
)

# Events and filters.

chunk = Event("chunk_started", attr="chunk")


def next_chunk(state: Mine) -> Mine:
    return state.with_attribute("chunk", state.attributes.get("chunk", 0) + 1)


def is_late(state: Mine) -> bool:
    return state.iteration > 10


stride: Filter = every(3) & after(2) | ~once(5, 7) | where(is_late) & before(9, of="epoch")
several: EventSet = chunk(stride) | Events.STARTED | Events.EPOCH_STARTED(once=[1, 2], when=is_late)
chunked = loop.register(chunk).on(several, next_chunk).on(Events.EXITED(once=1), note)

# Handlers are functions, joins of functions, and methods of the state.

handler: Handler[Batch, float, Best] = compose(keep_best, when(is_late, stop_when_good))
on_error: PayloadHandler[Batch, float, Best, BaseException] = answer
on_loss: PayloadHandler[Batch, float, Best, float] = clip
bound: Callable[[Mine], Mine] = handler
joined = loop.on(Events.COMPLETED, handler).on(Events.STARTED, Mine.interrupt)

# A handler is tested without a run.

state: Mine = State(
    epoch=2,
    output=0.5,
    user=Best(),
    metrics={"accuracy": 0.5},
    limits=Limits(max_epochs=3),
)
assert keep_best(state) == state.evolve(user=Best(0.5))
assert state.terminate_epoch(skip_epoch_completed=True) != state
assert state.evolve(output=1.0, batch=[1.0], metrics={"loss": 1.0}).has_output
recovered: Mine = state.recover(Recovery.SKIP_BATCH)

# A step is any function from state to state.


def step(state: Mine) -> Mine:
    return state.evolve(output=train_on(state.batch))


plain = Loop(step, semantics=DOCUMENTED)
assert_type(plain, Loop[Batch, float, Best])
try:
    plain.run([[1.0]], user=Best())
except ArithmeticError as error:
    left = last_state(error)
    assert_type(left.epoch, int)
