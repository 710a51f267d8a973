"""Evaluate: a handler that runs another loop and keeps its metrics.

The other loop is a value, so each evaluation begins again and nothing has to be reset.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar, cast, final, overload

import attrs
from typing_extensions import TypeVar as DefaultTypeVar
from typing_extensions import override

from fengine.core.equality import same
from fengine.core.outcome import Status
from fengine.core.state import Batch, Output, State, User
from fengine.loop import Loop

Item = TypeVar("Item")
Result = TypeVar("Result")
Part = DefaultTypeVar("Part", default=None)


@final
@attrs.frozen(eq=False)
class _Content:
    """Compare batches as states do: tensors by their content, and always to a bool."""

    value: object

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and same(self.value, other.value)

    @override
    def __hash__(self) -> int:
        return hash(self.value)


@final
@attrs.frozen
class Evaluate(Generic[Item, Result, Part]):
    """Run a loop over its own data and keep its metrics; made by `evaluate`."""

    loop: Loop[Item, Result, Part] = attrs.field(repr=False)
    batches: Iterable[Item] = attrs.field(repr=False, eq=_Content)
    user: Part = attrs.field(repr=False)
    prefix: str

    def __call__(self, state: State[Batch, Output, User]) -> State[Batch, Output, User]:
        """Return the state with the metrics of a new run.

        Raises:
            RuntimeError: the new run was interrupted, so that its metrics are those of a part.
        """
        final = self.loop.run(self.batches, user=self.user)
        if final.status is Status.INTERRUPTED:
            length = final.limits.epoch_length
            done = (
                f"{final.batches} batches"
                if length is None
                else f"{final.batches} of {length} batches"
            )
            raise RuntimeError(
                f"the evaluation was interrupted at {final.event!r} after {done}, so its metrics "
                "are those of a part of the data. A run that goes on from last_state(error) "
                "evaluates again; terminate() ends an evaluation that is to be shorter"
            )
        named = {self.prefix + name: value for name, value in final.metrics.items()}
        return state.evolve(metrics=state.metrics.update(named))


@overload
def evaluate(
    loop: Loop[Item, Result, None], *, batches: Iterable[Item], prefix: str = ""
) -> Evaluate[Item, Result, None]: ...


@overload
def evaluate(
    loop: Loop[Item, Result, Part], *, batches: Iterable[Item], user: Part, prefix: str = ""
) -> Evaluate[Item, Result, Part]: ...


def evaluate(
    loop: Loop[Item, Result, Part],
    *,
    batches: Iterable[Item],
    user: object = None,
    prefix: str = "",
) -> Evaluate[Item, Result, Part]:
    """Make a handler that runs another loop for one epoch and keeps its metrics.

    Args:
        loop: its handlers put their results into `state.metrics`.
        batches: the data of the evaluation; it is read again each time.
        user: the record that each evaluation begins with.
        prefix: put before the name of each metric.

    Raises:
        TypeError: `loop` is not a Loop.
        RuntimeError: in the run, the evaluation is interrupted and does not end. The event where
            it runs has failed then, and fires again where the run goes on.

    >>> from fengine import Events, Loop, State, outputs
    >>> def keep_sum(state: State[int, int, int]) -> State[int, int, int]:
    ...     return state.evolve(user=state.user + state.output)
    >>> def report(state: State[int, int, int]) -> State[int, int, int]:
    ...     return state.with_metric("sum", state.user)
    >>> validation = (
    ...     Loop[int, int, int](outputs(abs))
    ...     .on(Events.ITERATION_COMPLETED, keep_sum)
    ...     .on(Events.COMPLETED, report)
    ... )
    >>> evaluate(validation, batches=[-1, -2], user=0, prefix="held_out_")(State()).metrics
    immutables.Map({'held_out_sum': 3.0})
    """
    if not isinstance(loop, Loop):
        raise TypeError(f"evaluate takes a Loop first, not {loop!r} of type {type(loop).__name__}")
    return Evaluate(loop, batches, cast("Part", user), prefix)
