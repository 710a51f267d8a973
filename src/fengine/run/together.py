"""Together: a run that is one run on several ranks.

The ranks go through the same events, some of which each of them fires: the shared ones. After the
handlers of a shared event they agree. What any of them asks for, all have asked for then, so that
all obey it there. At other events requests wait, in the state, for the next shared one. Ranks that
stand at different places, or have other limits or metrics, find that out there too.

A failure is told to the others before the handlers of EXCEPTION_RAISED run, so that nobody waits
for a rank that has failed. On several ranks nothing is recovered: one cannot go on by itself.

A handler that only looks on, and is last at its event, may need what all have agreed on, as one
that saves does. It has the ranks agree before it goes on, by `agreed`.

Whether the process is asked to end is agreed on like a request. So a run within a handler pauses on
all ranks or on none.

A run on one rank has none of this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, final
from weakref import WeakValueDictionary

import attrs

from fengine.core.events import AnyEvent, Events, rank_at
from fengine.core.outcome import Status
from fengine.core.requests import (
    NO_REQUESTS,
    Interrupt,
    Requests,
    Terminate,
    TerminateEpoch,
    shared,
)
from fengine.core.state import State, with_requests
from fengine.core.table import where_in_run
from fengine.run.box import RUNNING, Box
from fengine.run.preemption import AgreedPreemption
from fengine.run.ranks import (
    AgreeEvery,
    Agreeing,
    PeerFailed,
    Ranks,
    RanksDiverged,
    differences,
)

_SHARED: Final[tuple[AnyEvent, ...]] = (
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.ITERATION_COMPLETED,
    Events.TERMINATE_SINGLE_EPOCH,
    Events.EPOCH_COMPLETED,
    Events.INTERRUPT,
    Events.TERMINATE,
    Events.COMPLETED,
    Events.EXITED,
)
# The events that all ranks fire, numbered. They are where requests have to be agreed on: where they
# are obeyed, and where they change what follows.
SHARED: Final = {event.name: number for number, event in enumerate(_SHARED)}
# Where data does not say its length, a rank may be at its end and the others not. They find out
# before the step, in which they might wait for each other.
SHARED_FOR_UNKNOWN_LENGTH: Final = {**SHARED, Events.GET_BATCH_COMPLETED.name: len(SHARED)}

AnyState: TypeAlias = State[Any, Any, Any]
_Standing: TypeAlias = Box[Any, Any, Any] | AnyState

# Numbers that grow with what is asked for, so that the largest of several is what all obey.
_TERMINATE: Final = (None, Terminate.LIMIT, Terminate.SILENT, Terminate.ANNOUNCED)
_TERMINATE_EPOCH: Final = (None, TerminateEpoch.SILENT, TerminateEpoch.ANNOUNCED)
_INTERRUPT: Final = (None, Interrupt.ANNOUNCED)
_BITS: Final = 2**62 - 1
_CUT: Final = Events.TERMINATE_SINGLE_EPOCH
_DONE: Final = Events.ITERATION_COMPLETED
_EPOCH_DONE: Final = Events.EPOCH_COMPLETED

_MEND_PLACE: Final = (
    "What decides what a run does is the same on all ranks. An effect of one rank is "
    "on_rank(ranks, effect) on all of them; where shards of data differ in length, see even(data, "
    "ranks), both of fengine.distributed"
)
_MEND_METRICS: Final = (
    "Metrics are the same on all ranks: give the loops that measure ranks=, too, or reduce numbers "
    "of your own before, as fengine.distributed.summed does"
)
# What has runs be one on all ranks, by the identity of their boxes; a box would hold a circle.
_TOGETHER: Final[WeakValueDictionary[int, Together]] = WeakValueDictionary()


@final
@attrs.define(eq=False)
class Together:
    """Have a run be one on all ranks.

    Args:
        box: the run on this rank.
        ranks: the ranks, more than one.
        agreeing: how often they agree.
        length: how many batches the data says that it has; None if it does not say.
        has_data: whether there is data.
        metrics: returns the metrics as they are now; None: those of the run.

    Attributes:
        events: the names of the shared events, numbered.
        preemption: what the run asks whether it is to end.
        serial: the number of the run, the same on all ranks.
        turn: how often a rank has asked, where they agree when asked.
        fired: the event that is being fired; None once the ranks have agreed at this firing.
        told: an exception that the others have been told of, and what leaves this rank for it.
    """

    box: Box[Any, Any, Any]
    ranks: Ranks
    agreeing: Agreeing
    length: int | None
    has_data: bool
    metrics: Callable[[], Mapping[str, object]] | None = None
    events: Mapping[str, int] = attrs.field(init=False)
    preemption: AgreedPreemption = attrs.field(init=False)
    serial: int = attrs.field(init=False, default=0)
    turn: int = attrs.field(init=False, default=0)
    fired: AnyEvent | None = attrs.field(init=False, default=None)
    told: tuple[BaseException, BaseException] | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        unknown = self.has_data and self.length is None
        self.events = SHARED_FOR_UNKNOWN_LENGTH if unknown else SHARED
        self.preemption = AgreedPreemption(self.box.preemption)
        box = self.box
        box.preemption, box.is_shared = self.preemption, True
        _TOGETHER[id(box)] = self

    def begin(self, said: Mapping[str, object]) -> None:
        """Agree on where the run begins, and on what it is made of.

        Args:
            said: what has to be the same on all ranks, by name, beside the place.

        Raises:
            RanksDiverged: something is not.
        """
        box = self.box
        place = {**_place(box), "handlers that have run": box._handled, **said}
        box.requests = self._join(box, 0, _digest(place), place, _MEND_PLACE)
        (self.serial,) = self.ranks.largest((box.number,))
        event = box.event
        if event is None or box._handled is not None or event.name not in self.events:
            return
        if event is not _DONE or self._is_every(box.iteration):
            box.agreed = event

    def agreeing_after(self, fire: Callable[[AnyEvent], None]) -> Callable[[AnyEvent], None]:
        """Return what fires the events of the run, and agrees after the handlers of some."""
        box, events = self.box, self.events

        def fire_and_agree(event: AnyEvent) -> None:
            self.fired = event
            fire(event)
            if self.fired is not None:
                if event.name not in events or not self._is_due(event):
                    box.agreed = None
                    return
                box.requests = self._agree(event, box)
            # Where an epoch is cut, all that follows until its end is the same on all ranks.
            box.agreed = _EPOCH_DONE if event is _CUT else event

        return fire_and_agree

    def agreed_in(self, state: AnyState) -> AnyState:
        """Return a state within the firing of an event as all ranks have agreed on it; collective.

        Raises:
            RanksDiverged: the ranks stand at different places, or differ in what all share.
        """
        event, self.fired = self.fired, None
        if event is None:
            return state
        joined = self._agree(event, state)
        return state if joined is state.requests else with_requests(state, joined)

    def tell(self, error: BaseException) -> BaseException:
        """Tell the others of an exception, and return the one that leaves this rank."""
        if isinstance(error, PeerFailed) or (isinstance(error, RanksDiverged) and error.on_all):
            return error
        if self.told is None or error not in self.told:
            lines = str(error).splitlines()
            text = f": {lines[0][:_LONGEST]}" if lines else ""
            what = f"{type(error).__name__}{text} {where_in_run(self.box)}"
            failed = self.ranks.fail(error, what)
            if failed is not None:
                failed.__cause__ = error
            self.told = error, error if failed is None else failed
        return self.told[1]

    def _is_every(self, iteration: int) -> bool:
        """Tell whether ranks that agree every so often agree at the end of an iteration."""
        agreeing = self.agreeing
        return not isinstance(agreeing, AgreeEvery) or iteration % agreeing.iterations == 0

    def _is_due(self, event: AnyEvent) -> bool:
        """Tell whether the ranks agree at this firing of a shared event."""
        box = self.box
        if event is Events.EXITED:
            return box.status is not Status.FAILED
        if event is not _DONE:
            return True
        if isinstance(self.agreeing, AgreeEvery):
            return self._is_every(box.iteration)
        asks = box.requests is not NO_REQUESTS or self.preemption.is_own()
        key = f"asked/{self.serial}/{self.turn}"
        asked = self.ranks.first(key, box.iteration if asks else None)
        # Another rank may have completed the iteration in which it was asked, and none the next.
        if asked is None or asked >= box.iteration:
            return False
        self.turn += 1
        return True

    def _agree(self, event: AnyEvent, at: _Standing) -> Requests:
        """Have the requests of all ranks, where the run stands after handlers of an event."""
        number = self.events.get(event.name, len(self.events)) + 1
        said: dict[str, object] = {"event": event.name}
        if event is not _EPOCH_DONE and at is self.box:
            return self._join(at, number, 0, said, _MEND_PLACE)
        if event is _EPOCH_DONE:
            self._require_whole_pass(at)
        known: Mapping[str, object] = at.metrics if self.metrics is None else self.metrics()
        metrics = {f"metrics[{name!r}]": one for name, one in known.items()}
        return self._join(at, number, _digest(metrics), said | metrics, _MEND_METRICS)

    def _join(
        self, at: _Standing, number: int, digest: int, said: Mapping[str, object], mend: str
    ) -> Requests:
        """Have the requests of all ranks, at a place where all stand alike.

        Raises:
            RanksDiverged: they do not.
        """
        limits, requests = at.limits, at.requests
        length = -1 if limits.epoch_length is None else limits.epoch_length
        mark = _BITS & hash(
            (
                number,
                rank_at(at.event),
                at.iteration,
                at.epoch,
                at.batches,
                limits.max_epochs or -1,
                limits.max_iters or -1,
                length,
                digest,
            )
        )
        *asked, preempted, high, low = self.ranks.largest(
            (
                _TERMINATE.index(requests.terminate),
                _TERMINATE_EPOCH.index(requests.terminate_epoch),
                _INTERRUPT.index(requests.interrupt),
                int(self.preemption.is_own()),
                mark,
                -mark,
            )
        )
        if high != -low:
            what = differences(self.ranks.gathered({**said, **_place(at)}))
            raise RanksDiverged(f"{what or 'the ranks differ'}. {mend}", on_all=True)
        self.preemption.asked = bool(preempted)
        joined = Requests(
            _TERMINATE[asked[0]],
            _TERMINATE_EPOCH[asked[1]],
            _INTERRUPT[asked[2]],
            requests.recovery,
        )
        return requests if joined == requests else shared(joined)

    def _require_whole_pass(self, at: _Standing) -> None:
        """Refuse a pass with fewer batches than the data said, of which the others cannot know.

        Raises:
            RanksDiverged: it is one.
        """
        length = at.limits.epoch_length
        if (
            self.length is not None
            and length is not None
            and at._notes.length_of_data
            and at.batches < min(length, self.length)
            and at.requests.terminate_epoch is None
        ):
            raise RanksDiverged(
                f"the data of rank {self.ranks.rank} said that it has {self.length} batches, and "
                f"gave {at.batches} in epoch {at.epoch}; on several ranks nobody else knows of "
                "that in time. Give data that says its length right, or fengine.distributed.even "
                "over an iterator of it, which asks all ranks at each batch"
            )


def _place(at: _Standing) -> dict[str, object]:
    limits = at.limits
    return {
        "event of the run": at.event,
        "epoch": at.epoch,
        "iteration": at.iteration,
        "batches": at.batches,
        "max_epochs": limits.max_epochs,
        "max_iters": limits.max_iters,
        "epoch_length": limits.epoch_length,
    }


def agreed(state: AnyState) -> AnyState:
    """Return the state that a handler was given as all ranks have agreed on it; collective.

    On one rank it comes back as it is. The handler is one that only looks on, on all ranks.

    Raises:
        RanksDiverged: the ranks stand at different places, or differ in what all share.
    """
    together = _TOGETHER.get(id(RUNNING.get(state._notes.run)))
    return state if together is None else together.agreed_in(state)


_LONGEST: Final = 300


def _digest(said: Mapping[str, object]) -> int:
    """Return a number that stands for what is said, the same in each process."""
    text = repr(sorted((name, repr(one)) for name, one in said.items()))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())
