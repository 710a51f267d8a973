"""Mistakes in programs for the functional API, each found where it is made."""

import attrs

from fengine import (
    END_RUN,
    Event,
    Events,
    Loop,
    Outcome,
    PayloadEvent,
    State,
    Table,
    compose,
    every,
    focus,
    outputs,
    stages,
    tap,
    when,
    where,
)


@attrs.frozen
class Best:
    loss: float = 1.0


Mine = State[int, float, Best]


def train_on(batch: int) -> float:
    return batch / 2


def keep_best(state: Mine) -> Mine:
    return state.evolve(user=Best(min(state.user.loss, state.output)))


loop = Loop[int, float, Best](outputs(train_on))

# The state: misspelt, frozen, or of the wrong type.


def mistaken(state: Mine) -> Mine:
    state.iterations  # error: attr-defined
    state.user.los  # error: attr-defined
    state.iteration = 3  # error: misc
    state.output = 0.5  # error: misc
    state.user.loss = 0.5  # error: misc
    state.limits.max_epochs = 2  # error: misc
    state.requests.terminate = None  # error: misc
    state.metrics["loss"] = 0.5  # error: index
    state.evolve(outptu=0.5)  # error: call-arg
    state.evolve(iteration=3)  # error: call-arg
    state.evolve(user=0.5)  # error: arg-type
    state.evolve(output="large")  # error: arg-type
    state.evolve(batch=[1])  # error: arg-type
    state.evolve(metrics={"loss": "large"})  # error: dict-item
    state.with_metric("loss", "large")  # error: arg-type
    state.with_attribute("chunk", "first")  # error: arg-type
    state.terminate(True)  # error: call-arg
    state.recover("skip_batch")  # error: arg-type
    return state.terminate  # error: return-value


# Handlers: of another state, or giving none.


def of_another_user(state: State[int, float, int]) -> State[int, float, int]:
    return state


def of_another_batch(state: State[str, float, Best]) -> State[str, float, Best]:
    return state


def forgetful(state: Mine) -> None:
    state.terminate()


def returning_output(state: Mine) -> float:
    return state.output


async def asynchronous(state: Mine) -> Mine:
    return state


def two(state: Mine, more: int) -> Mine:
    return state


loop.on(Events.STARTED, of_another_user)  # error: arg-type
loop.on(Events.STARTED, of_another_batch)  # error: arg-type
loop.on(Events.STARTED, forgetful)  # error: arg-type
loop.on(Events.STARTED, returning_output)  # error: arg-type
loop.on(Events.STARTED, asynchronous)  # error: arg-type
loop.on(Events.STARTED, two)  # error: arg-type
loop.on(Events.STARTED, keep_best(State()))  # error: call-overload
loop.on(Events.STARTED(every=2) | Events.COMPLETED, forgetful)  # error: arg-type

# Payloads: one too many, none, and one of another type.


def on_outcome(state: Mine, outcome: Outcome) -> Mine:
    return state


def on_number(state: Mine, number: int) -> Mine:
    return state


loop.on(Events.STARTED, on_outcome)  # error: arg-type
loop.on(Events.EXITED, keep_best)  # error: arg-type
loop.on(Events.EXITED, on_number)  # error: arg-type
loop.on(Events.EXITED(once=1), on_number)  # error: arg-type
loop.on(Events.EXCEPTION_RAISED, on_outcome)  # error: arg-type

# Events and filters.

loop.on("started", keep_best)  # error: call-overload
loop.on(Events.EPOCH_STARTD, keep_best)  # error: attr-defined
loop.on(every(2), keep_best)  # error: call-overload
loop.on(Events.STARTED | Events.EXITED, keep_best)  # error: operator
loop.register("chunk_started")  # error: arg-type
Events.STARTED.name = "begun"  # error: misc
Events.STARTED = Event("begun")  # error: misc
Events.EPOCH_STARTED(evry=2)  # error: call-arg
Events.EPOCH_STARTED(every=2.5)  # error: arg-type
Events.EPOCH_STARTED(every=2, of="batch")  # error: arg-type
Events.EPOCH_STARTED(keep_best)  # error: arg-type
every("2")  # error: arg-type
every(2) | Events.STARTED  # error: operator
where(2)  # error: arg-type

# Runs: the user's record wrong or missing, data of other batches, limits of other types.

loop.run([1, 2])  # error: call-arg
loop.run([1, 2], user=3)  # error: arg-type
loop.run(["a"], user=Best())  # error: list-item
loop.run([1, 2], user=Best(), max_epoch=3)  # error: call-arg
loop.run([1, 2], 3, user=Best())  # error: arg-type, misc
loop.run([1, 2], user=Best(), max_epochs="3")  # error: arg-type
loop.iterate([1, 2])  # error: call-overload
loop.iterate([1, 2], after=State(user=3))  # error: arg-type
loop.resume(State(user=3), [1, 2])  # error: arg-type
final: State[int, float, int] = loop.run([1], user=Best())  # error: assignment
loop.step = keep_best  # error: misc
loop.table = Table()  # error: misc

# Steps and stages: each fed with what the last one gives.

ready = PayloadEvent[str]("ready")


def forward(state: Mine) -> float:
    return state.output


def backward(loss: float) -> str:
    return str(loss)


def update(text: str) -> float:
    return float(text)


Loop[int, float, Best](train_on)  # error: arg-type
Loop[int, str, Best](outputs(train_on))  # error: arg-type
Loop[str, float, Best](outputs(train_on))  # error: arg-type
Loop[int, float, Best](stages(forward).then(backward))  # error: arg-type
Loop[int, float, Best](stages(backward).then(update))  # error: arg-type
stages(forward).then(update)  # error: arg-type
stages(forward).then(backward).then(backward)  # error: arg-type
stages(forward).emit(ready)  # error: arg-type
stages(forward).emit(Events.EXITED)  # error: arg-type
stages(forward).emit(PayloadEvent[int]("rounded"))  # error: arg-type
stages(forward).emit("ready")  # error: arg-type
stages(forward).then(backward).emit(ready).then(forward)  # error: arg-type

# Joins of handlers.


def on_loss(state: State[int, float, float]) -> State[int, float, float]:
    return state


compose(keep_best, of_another_user)  # error: misc
compose(keep_best, forgetful)  # error: arg-type
when(keep_best, keep_best)  # error: arg-type
when(lambda state: state.user.loss > 1, forgetful)  # error: arg-type
focus(3, on_loss)  # error: call-overload
focus("loss", train_on)  # error: arg-type
loop.on(Events.STARTED, focus("loss", on_number))  # error: arg-type
loop.on(Events.STARTED, tap(of_another_user))  # error: arg-type
END_RUN.value = "end"  # error: misc
