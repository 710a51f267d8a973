"""Laws of going on among the handlers of an event: those that have not run, run."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from fengine import Events, Loop, Moment, Registration, Snapshot, State, Table, tap
from fengine.core.phases import is_report
from fengine.testing import Program, programs
from fengine.testing.batches import Batch
from fengine.testing.program import Output, Played, Seen

from .recording import record
from .test_recorder import limits_of
from .test_runs import REPLAYED

KeptState = tuple[int, Played, Snapshot[Batch, Output, Seen]]


@attrs.define(eq=False)
class Keeping:
    """Keep each state that passes between the handlers of a loop, and a snapshot taken there."""

    loop: Loop[Batch, Output, Seen] = attrs.field(init=False)
    moments: list[Moment[Batch, Output, Seen]] = attrs.field(factory=list)
    kept: list[KeptState] = attrs.field(factory=list)
    is_keeping: bool = True

    def among(self, loop: Loop[Batch, Output, Seen]) -> Loop[Batch, Output, Seen]:
        registrations: list[Registration[Batch, Output, Seen]] = []
        for event in loop.registry.events:
            keeper = Registration(event, None, tap(self.keep))
            registrations.append(keeper)
            for one in loop.table.in_order().get(event.name, ()):
                registrations += [one, keeper]
        self.loop = attrs.evolve(loop, table=Table(tuple(registrations)))
        return self.loop

    def keep(self, state: Played) -> None:
        if self.is_keeping and not state.status.has_ended:
            snapshot = self.loop.snapshot(state)
            self.kept.append((len(self.moments), state, snapshot))

    def pull(self, program: Program) -> Exception | None:
        try:
            for moment in self.loop.iterate(
                program.data.fresh(), user=Seen(), **limits_of(program)
            ):
                self.moments.append(moment)
        except Exception as error:
            return error
        finally:
            self.is_keeping = False
        return None


@given(programs(data=REPLAYED), st.data())
def test_what_is_kept_among_handlers_goes_on_as_the_run_did(
    program: Program, chosen: st.DataObject
) -> None:
    keeping = Keeping()
    loop = keeping.among(program.loop())
    error = keeping.pull(program)
    events = [moment.event for moment in keeping.moments]
    # A run that goes on from a pause goes on; reports are not fired again.
    aside = {
        number
        for number, event in enumerate(events)
        if event is Events.INTERRUPT or is_report(event.name)
    }
    inside = [one for one in keeping.kept if one[0] < len(keeping.moments) and one[0] not in aside]
    if not inside:
        return
    number, state, snapshot = chosen.draw(st.sampled_from(inside))
    plain: Played = State.from_dict(
        state.to_dict(batch=lambda batch: batch),
        events=loop.registry,
        parts=loop.parts,
        user=Seen,
    )
    for start in (state, snapshot, plain):
        rest = record(loop.iterate(program.data.fresh(), after=start, replay=True))
        assert list(rest.moments) == keeping.moments[number:]
        assert repr(rest.error) == repr(error)
