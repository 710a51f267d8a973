"""The player: it plays a program on one side, and writes down what user code sees."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import reduce
from inspect import signature
from operator import or_
from typing import Any, Final

from tests.engine.differential.batches import Data
from tests.engine.differential.deeds import OWN_EVENTS, TICK, Deed, Listener
from tests.engine.differential.program import EVENTS, PROCESS, Program, Run
from tests.engine.differential.seen import Endless, Result, Seen
from tests.engine.differential.sides import Side, error_name


class OtherFault(Exception):
    """Stand for what a handler of EXCEPTION_RAISED raises instead."""


def play(program: Program, side: Side, others: Sequence[Mapping[str, Any]] = ()) -> Result:
    """Play a program on one side.

    Args:
        program: what to play.
        side: where.
        others: what the other side saved, to be loaded instead of what this one saves.
    """
    player = Player(program, side, others)
    with warnings.catch_warnings(), suppress(Endless):
        warnings.simplefilter("always")
        warnings.showwarning = player.warned  # type: ignore[assignment]  # a recorder
        for run in program.runs:
            player.run(run)
    side.close(player.engine)
    return player.result


class Player:
    """Play a program on one side."""

    def __init__(self, program: Program, side: Side, others: Sequence[Mapping[str, Any]]) -> None:
        self.program, self.side, self.others = program, side, others
        self.result = Result()
        self.labels: dict[int, tuple[str, Any]] = {}
        self.engine = side.engine(self.process, self.result)
        self.engine.logger = _SILENT
        self.engine.interrupt_resume_enabled = program.pauses
        self.engine.state.alpha = 0
        if program.saves:
            self.engine.state_dict_user_keys.append("alpha")
        events = {name: side.event(name) for name in EVENTS}
        self.engine.register_events(
            *(events[name] for name in OWN_EVENTS), event_to_attr={events[TICK]: "ticks"}
        )
        self.acts: dict[tuple[str, int], list[Deed]] = {}
        for act in program.acts:
            self.acts.setdefault((act.place, act.firing), []).append(act.deed)
        self.recorders = {name: _Recorder(self, name) for name in EVENTS}
        for name, recorder in self.recorders.items():
            if program.answers if name == "exception_raised" else name not in program.quiet:
                self.engine.add_event_handler(events[name], recorder)
        if program.removed:
            with self.engine.add_event_handler(events["exception_raised"], _nothing):
                pass
        self.handles: list[Any] = []
        for listener in program.listeners:
            self.attach(listener)

    def attach(self, listener: Listener) -> None:
        """Add a listener, and keep its handle."""
        arguments = dict(listener.filter)
        if "event_filter" in arguments:
            arguments["event_filter"] = self.filter
        events = [self.side.event(name) for name in listener.events]
        if arguments:
            events = [event(**arguments) for event in events]
        handler = self.listen_bare if listener.bare else self.listen
        joined, number = reduce(or_, events), len(self.handles)
        self.handles.append(self.engine.add_event_handler(joined, handler, number))

    def run(self, run: Run) -> None:
        """Do what comes before a run, and run."""
        for deed in run.before:
            try:
                self.do(deed)
            except Endless:
                raise
            except BaseException as error:
                self.see("refused", error_name(error))
        data = self.make(run.data)
        try:
            state = self.engine.run(data, **run.limits)
        except Endless:
            raise
        except BaseException as error:
            self.see("raised", error_name(error))
        else:
            self.see("returned", (state is self.engine.state, *self.engine.state_dict().items()))

    def make(self, data: Data) -> Any:
        """Make data, and remember its label."""
        label = "abcdefghijklmnopqrstuvwxyz"[len(self.labels) % 26]
        made = data.make(label, self.result.watch)
        if made is not None:
            self.labels[id(made)] = label, made
        return made

    def warned(self, *args: Any) -> None:
        with self.side.warning(self.engine):
            self.see("warning")

    def see(self, what: str, extra: object = None) -> None:
        """Write down what can be seen now."""
        self.result.watch()
        engine, state = self.engine, self.engine.state
        last, data = engine.last_event_name, state.dataloader
        self.result.seen.append(
            Seen(
                what,
                state.epoch,
                state.iteration,
                state.batch,
                state.output,
                None if data is None else self.labels[id(data)][0],
                (state.epoch_length, state.max_epochs, state.max_iters),
                (
                    engine.should_terminate,
                    engine.should_terminate_single_epoch,
                    engine.should_interrupt,
                ),
                None if last is None else getattr(last, "value", last),
                (state.ticks, state.alpha),
                extra,
            )
        )

    def process(self, engine: Any, batch: Any) -> Any:
        self.side.processing(engine)
        self.see(PROCESS, (engine is self.engine, batch))
        self.act(PROCESS)
        return f"out {batch}"

    def listen(self, engine: Any, *args: Any, **kwargs: Any) -> None:
        self.see(f"listener {args[-1]}", engine is self.engine)

    def listen_bare(self, number: int) -> None:
        self.see(f"listener {number}")

    def filter(self, engine: Any, count: int) -> bool:
        self.see("filter", (engine is self.engine, count))
        return count % 2 == 1

    def act(self, place: str) -> None:
        """Do what is to be done at this firing."""
        self.result.firings[place] += 1
        for deed in self.acts.get((place, self.result.firings[place]), ()):
            self.do(deed)

    def do(self, deed: Deed) -> None:
        self.result.done[deed] += 1
        deed.do(self)

    def answer(self, error: BaseException) -> None:
        """Handle an exception as the program says."""
        answers = self.program.answers or ("take",)
        answer = answers[self.result.firings["exception_raised"] % len(answers)]
        self.result.done[answer] += 1
        self.act("exception_raised")
        if answer == "raise":
            raise error
        if answer == "replace":
            raise OtherFault
        if answer == "stop":
            raise self.side.stop_iteration()

    def last_saved(self) -> Mapping[str, Any]:
        """Give what was saved last, by the other side if that is given."""
        number = len(self.result.saved) - 1
        return (self.others or self.result.saved)[number]


class _Recorder:
    """Record an event, and act; equal only to itself."""

    # Known, and not found out for each of them: that took most of the time of a short program.
    __signature__ = signature(lambda engine, *args, **kwargs: None)

    def __init__(self, player: Player, name: str) -> None:
        self.player, self.name = player, name

    def __call__(self, engine: Any, *args: Any, **kwargs: Any) -> None:
        player = self.player
        extra = (*(error_name(arg) for arg in args), *sorted(kwargs.items()))
        player.see(self.name, (engine is player.engine, *extra))
        if self.name == "exception_raised":
            player.answer(args[0])
        else:
            player.act(self.name)


def _nothing(engine: Any, error: BaseException) -> None:
    pass


_SILENT: Final = logging.getLogger("silent")
_SILENT.disabled = True
