"""Evaluation: run another loop over data of its own, and keep its metrics.

The other loop is a value, so each evaluation begins again and nothing has to be reset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Generic, Protocol, Self, TypeVar, cast, final, overload

import attrs
from typing_extensions import TypeVar as DefaultTypeVar
from typing_extensions import override

from fengine import Events, Loop, Part, State, Status, When
from fengine.core.describe import Words, call_in_words, typed
from fengine.core.equality import Content
from fengine.core.steps import facts_of, require_not_lent
from fengine.core.taking import RunsLoop
from fengine.features.outer import Outer, OuterPart, read_of
from fengine.metrics.of_members import MemberValues, member_values, names_of_members
from fengine.run.first_batches import FirstBatches
from fengine.run.ports import Preempting
from fengine.run.preemption import Preempted, preemption_of
from fengine.run.source import length_of

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")
Item = TypeVar("Item")
Result = TypeVar("Result")
Own = DefaultTypeVar("Own", default=None)
Kept = TypeVar("Kept")


@final
@attrs.frozen(repr=False)
class Evaluation(Generic[Item, Result, Own]):
    """Evaluate; made by `evaluation`.

    >>> from fengine import outputs
    >>> from fengine.metrics import mean
    >>> evaluation(Loop(outputs(float)) | mean("loss"), [1, 2]).metrics()
    {'val_loss': 1.5}
    """

    loop: Loop[Item, Result, Own]
    data: Iterable[Item] = attrs.field(eq=Content)
    prefix: str
    at: When
    user: Own
    max_batches: int | None

    @override
    def __repr__(self) -> str:
        shown: dict[str, object] = {}
        if self.prefix != "val_":
            shown["prefix"] = self.prefix
        if self.at is not Events.EPOCH_COMPLETED:
            shown["at"] = self.at
        if self.user is not None:
            shown["user"] = self.user
        if self.max_batches is not None:
            shown["max_batches"] = self.max_batches
        names = ", ".join(sorted(self.loop.metrics))
        return call_in_words("evaluation", Words(f"Loop of {names}" if names else "Loop"), **shown)

    def __call__(self, loop: Loop[B, O, U], /) -> Loop[B, O, U]:
        """Return the loop with the evaluation.

        Raises:
            ValueError: a metric is set by another feature already; or something outside the state
                has a name that stands for something else; or the other loop predicts with a model
                that the step of this one only lends.
        """
        for thing in facts_of(self.loop.step).reads:
            require_not_lent(loop.step, thing, _WAY, repr(self))
        names = [self.prefix + name for name in self.loop.metrics]
        return (
            loop.with_external(**self.loop.external)
            .with_part(*self._member_parts().values())
            .with_metrics(*names, at=self.at)
            .on(self.at, _Evaluating(self, frozenset(loop.metrics)))
        )

    def metrics(self, preemption: Preempting | None = None) -> dict[str, float]:
        """Evaluate once, and return the metrics under their prefixed names.

        Args:
            preemption: as for `Loop.run`.

        Raises:
            Preempted: the process is asked to end, so that the evaluation has paused.
            TypeError: the evaluation begins with what an outer run has, and is in none.
            RuntimeError: the evaluation was interrupted, so that there are metrics of a part.
        """
        if isinstance(self.user, Outer | OuterPart):
            raise TypeError(
                f"{self!r} begins with what an outer run has; put it into a loop: loop | evaluation"
            )
        return self._named(self._final(self.user, preemption).metrics)

    def _named(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {self.prefix + name: value for name, value in metrics.items()}

    def _member_parts(self) -> dict[str, Part[MemberValues]]:
        """Return where the metrics of the members of an ensemble are kept, by their own names."""
        if not facts_of(self.loop.step).members:
            return {}
        return {
            name: Part(self.prefix + name, MemberValues())
            for name in self.loop.parts
            if names_of_members(name)[0] in self.loop.metrics
        }

    def _final(self, user: Any, preemption: Preempting | None) -> State[Item, Result, Own]:
        data = self.data if self.max_batches is None else FirstBatches(self.data, self.max_batches)
        final = self.loop.run(data, user=user, preemption=preemption)
        if final.status is Status.INTERRUPTED and preemption is not None and preemption.asked:
            raise Preempted
        if final.status is Status.INTERRUPTED:
            length = final.limits.epoch_length
            of_all = "" if length is None else f" of {length}"
            done = f"{final.batches}{of_all} batches"
            raise RuntimeError(
                f"the evaluation was interrupted at {final.event!r} after {done}, so its metrics "
                "would be those of a part of the data. A run that goes on from last_state(error) "
                "evaluates again. For an evaluation that is to be shorter see max_batches="
            )
        return final

    def evaluated(self, state: State[B, O, U], taken: frozenset[str]) -> State[B, O, U]:
        """Return a state with the metrics of a new evaluation, and none of an earlier one.

        Raises:
            ValueError: a metric that the other loop does not name is one of another feature's.
        """
        final = self._final(read_of(self.user, state), preemption_of(state))
        found, kept = self._named(final.metrics), state.metrics
        for name in sorted(taken.intersection(found)):
            raise ValueError(
                f"{self!r} sets the metric {name!r}, which another feature of this loop sets; give "
                "the evaluation another prefix"
            )
        for name in self.loop.metrics:
            kept = kept.delete(self.prefix + name) if self.prefix + name in kept else kept
        for name, part in self._member_parts().items():
            is_set = names_of_members(name)[0] in final.metrics
            values = MemberValues(member_values(final, name)) if is_set else MemberValues()
            state = state.with_part(part, values)
        return state.evolve(metrics=kept.update(found))


_WAY: Final = (
    "so this would evaluate what the model was before; predict with what the state has: "
    "evaluation(Loop(functional_evaluation_step(model)), data, user=OUTER)"
)


class OuterEvaluation(Protocol[Kept]):
    """Be an evaluation that begins with the record of the outer run; made with `user=OUTER`.

    It fits a loop with the same record as that of the other one.

    >>> from fengine import outputs
    >>> from fengine.features import OUTER
    >>> other: Loop[int, int, str] = Loop(outputs(abs))
    >>> evaluation(other, [1], user=OUTER)
    evaluation(Loop, user=OUTER)
    """

    def __call__(self, loop: Loop[B, O, Kept], /) -> Loop[B, O, Kept]:
        """Return the loop with the evaluation."""


@final
@attrs.frozen(repr=False)
class _Evaluating(RunsLoop, Generic[Item, Result, Own]):
    """Set the metrics of a new evaluation."""

    feature: Evaluation[Item, Result, Own]
    taken: frozenset[str]

    @override
    def __repr__(self) -> str:
        return repr(self.feature)

    def __call__(self, state: State[B, O, U], payload: object = None) -> State[B, O, U]:
        return self.feature.evaluated(state, self.taken)

    @override
    def limited(self, batches: int) -> Self:
        """Return the handler for the first batches, also in evaluations of the other loop."""
        most = self.feature.max_batches
        least = batches if most is None else min(batches, most)
        loop = self.feature.loop.limited(batches)
        return attrs.evolve(self, feature=attrs.evolve(self.feature, loop=loop, max_batches=least))

    @override
    def read(self) -> tuple[object, ...]:
        """Return the data of the evaluation, and of those of the other loop."""
        return self.feature.data, *self.feature.loop.read_within()


@overload
def evaluation(
    loop: Loop[Item, Result, None],
    data: Iterable[Item],
    *,
    prefix: str = "val_",
    at: When = Events.EPOCH_COMPLETED,
    user: None = None,
    max_batches: int | None = None,
) -> Evaluation[Item, Result, None]: ...


@overload
def evaluation(  # type: ignore[overload-overlap]  # no record of a user's is an Outer
    loop: Loop[Item, Result, Own],
    data: Iterable[Item],
    *,
    prefix: str = "val_",
    at: When = Events.EPOCH_COMPLETED,
    user: Outer,
    max_batches: int | None = None,
) -> OuterEvaluation[Own]: ...


@overload
def evaluation(
    loop: Loop[Item, Result, Own],
    data: Iterable[Item],
    *,
    prefix: str = "val_",
    at: When = Events.EPOCH_COMPLETED,
    user: OuterPart[Own],
    max_batches: int | None = None,
) -> Evaluation[Item, Result, Own]: ...


@overload
def evaluation(
    loop: Loop[Item, Result, Own],
    data: Iterable[Item],
    *,
    prefix: str = "val_",
    at: When = Events.EPOCH_COMPLETED,
    user: Own,
    max_batches: int | None = None,
) -> Evaluation[Item, Result, Own]: ...


def evaluation(
    loop: Loop[Item, Result, Own],
    data: Iterable[Item],
    *,
    prefix: str = "val_",
    at: When = Events.EPOCH_COMPLETED,
    user: object = None,
    max_batches: int | None = None,
) -> Evaluation[Item, Result, Own] | OuterEvaluation[Own]:
    """Make a feature that runs another loop for one epoch, and keeps its metrics.

    Where the other loop evaluates an ensemble, the metrics of each member are kept as a part, for
    `fengine.metrics.member_values`.

    The parts of the other loop live for one evaluation. One that is ended by `terminate()` within a
    span sets no metric of that span, and none of an earlier evaluation stays. What the other loop
    changes outside the state is in the snapshots of the outer loop too.

    Args:
        loop: its features and handlers set metrics.
        data: the data of the evaluation; it is read again each time.
        prefix: put before the name of each metric.
        at: when to evaluate: an event, filtered or not, or several joined by `|`.
        user: the record that each evaluation begins with; OUTER for that of the outer run, and
            `OUTER.part(key)` for a part of it.
        max_batches: evaluate with so many batches at most; None: with all.

    Raises:
        TypeError: `loop` is not a Loop, or `data` is not iterable.
        ValueError: the loop has no step, the data says that it has no batch, or `max_batches` is
            below 1.
        RuntimeError: in the run, an evaluation is interrupted and does not end. The event where it
            runs has failed then, and fires again where the run goes on.

    >>> from fengine import outputs
    >>> from fengine.metrics import mean
    >>> held_out = Loop(outputs(float)) | mean("loss")
    >>> loop = Loop(outputs(float)) | evaluation(held_out, [1, 2])
    >>> loop.run([7]).metrics["val_loss"]
    1.5
    """
    if not isinstance(loop, Loop):
        raise TypeError(
            f"evaluation takes a Loop first, not {typed(loop)}; make one: "
            "Loop(evaluation_step(model)) | accuracy()"
        )
    if loop.step is None:
        raise ValueError("evaluation takes a loop that has a step to run, and this one has none")
    if not isinstance(data, Iterable):
        raise TypeError(f"data={typed(data)} is not an iterable of batches")
    if isinstance(data, Iterator):
        raise TypeError(
            f"data={data!r} gives each batch once, and an evaluation reads its data again each "
            "time; give a list, a DataLoader or TensorBatches"
        )
    if length_of(data) == 0:
        raise ValueError(
            f"there is nothing to evaluate: this {type(data).__name__} has the length 0"
        )
    known: object = prefix
    if not isinstance(known, str):
        raise TypeError(f"prefix={typed(known)} is not a str")
    if max_batches is not None and type(max_batches) is not int:
        raise TypeError(f"max_batches={typed(max_batches)} is not an int")
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches={max_batches} is below 1; None evaluates with all")
    return Evaluation(loop, data, prefix, at, cast("Own", user), max_batches)
