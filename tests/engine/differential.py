"""Programs for an Engine, played on pytorch-ignite and on fengine; what is seen must be equal.

A program is data, limits, runs, and what handlers do at which firing of which event. `play` runs it
on one side and gives everything that a user could have seen. `Mended` is pytorch-ignite with the
defects taken out that are fixed here; each of its methods mends one row of the list of defects,
named in its comment. What cannot be mended there cuts the comparison short, for a named reason.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

import attrs
import ignite.engine
from hypothesis import strategies as st
from typing_extensions import override

import fengine.engine
from fengine import DOCUMENTED, Semantics

LOOP_EVENTS: Final = tuple(event.value for event in fengine.engine.Events)
COUNTED: Final = tuple(
    name
    for name in LOOP_EVENTS
    if name
    not in (
        "exception_raised",
        "dataloader_stop_iteration",
        "terminate",
        "terminate_single_epoch",
        "interrupt",
    )
)
CUSTOM: Final = "custom"

# More callbacks than any program makes that ends.
CAP: Final = 400


class Fault(Exception):
    """Stand for whatever goes wrong in user code."""


class OtherFault(Exception):
    """Stand for what a handler of EXCEPTION_RAISED raises instead."""


class StandIn(Exception):
    """Stand, in pytorch-ignite, for a StopIteration of the user's: rows Q-04, C5 and R-17.

    There it is taken for the end of the data or becomes a RuntimeError; here it stays itself and is
    an exception like any other.
    """


class Endless(BaseException):
    """Leave a run that does not end by itself."""


# Data

Kind: TypeAlias = Literal["list", "sized", "unsized", "iterator", "liar", "none"]


@attrs.frozen
class Data:
    """Describe the data of a run.

    Args:
        kind: a list; sized and unsized iterables, with an iterator for each epoch; an iterator that
            gives each batch once; a liar, whose length is not what it gives; no data.
        size: the number of batches.
        said: the length that a liar gives.
        fails: after how many batches of all its iterators it raises, if it does.
    """

    kind: Kind = "list"
    size: int = 2
    said: int = 3
    fails: int | None = None

    @property
    def length(self) -> int | None:
        """The length that this data says it has."""
        return {"list": self.size, "sized": self.size, "liar": self.said}.get(self.kind)

    def make(self, watch: Callable[[], None], label: str) -> Any:
        """Make the data."""
        if self.kind == "none":
            return None
        if self.kind == "list" and self.fails is None:
            return [f"{label}{number}" for number in range(self.size)]
        if self.kind == "iterator":
            return iter(_Batches(self, watch, label))
        if self.kind == "unsized":
            return _Batches(self, watch, label)
        return _SizedBatches(self, watch, label)


class _Batches:
    def __init__(self, data: Data, watch: Callable[[], None], label: str) -> None:
        self.data, self.watch, self.label = data, watch, label
        self.given = self.started = 0

    def __iter__(self) -> Iterator[str]:
        self.started += 1
        return self._give(self.started)

    def _give(self, started: int) -> Iterator[str]:
        self.watch()
        for number in range(self.data.size):
            self.watch()
            if self.given == self.data.fails:
                self.given += 1
                raise Fault("data")
            self.given += 1
            yield f"{self.label}{started}.{number}"


class _SizedBatches(_Batches):
    def __len__(self) -> int:
        return self.data.size if self.data.length is None else self.data.length


# Deeds: what a handler, or the process function, can do.


@attrs.frozen
class Stop:
    """Call `terminate` or `terminate_epoch`, with or without its flag."""

    method: Literal["terminate", "terminate_epoch"] = "terminate"
    skip: bool = False


@attrs.frozen
class Pause:
    """Call `interrupt`."""


@attrs.frozen
class Flag:
    """Write one of the flags that say what was asked."""

    name: str
    value: bool | str


@attrs.frozen
class Throw:
    """Raise."""

    kind: Literal["error", "keyboard", "exit", "stop"] = "error"


@attrs.frozen
class Put:
    """Write an attribute of the state."""

    name: str
    value: object


@attrs.frozen
class Give:
    """Replace the data."""

    data: Data
    how: Literal["dataloader", "set_data"] = "dataloader"


@attrs.frozen
class Fire:
    """Fire an event by hand."""

    event: str = CUSTOM


@attrs.frozen
class Load:
    """Load progress."""

    counter: Literal["iteration", "epoch"] = "iteration"
    done: int = 0
    limit: Literal["max_epochs", "max_iters"] = "max_epochs"
    value: int | None = 3
    epoch_length: int | None = 2


@attrs.frozen
class Listen:
    """Add a recorder to an event, or take every one of them away."""

    event: str
    listen: bool = True


Deed: TypeAlias = Stop | Pause | Flag | Throw | Put | Give | Fire | Load | Listen
Answer: TypeAlias = Literal["take", "raise", "replace", "stop"]
PROCESS: Final = "process"


@attrs.frozen
class Act:
    """Do something at the n-th firing of an event, or the n-th call of the process function."""

    place: str
    firing: int
    deed: Deed


@attrs.frozen
class Run:
    """Call `run` once, after doing things."""

    data: Data = Data()
    max_epochs: int | None = None
    max_iters: int | None = None
    epoch_length: int | None = None
    before: tuple[Deed, ...] = ()


@attrs.frozen
class Listener:
    """Listen to an event with a filter."""

    event: str
    every: int | None = None
    once: int | None = None
    after: int | None = None


@attrs.frozen
class Program:
    """Hold runs of one engine, and what happens in them.

    Args:
        runs: the calls of `run`.
        acts: what handlers and the process function do.
        quiet: the events that no handler listens to.
        answers: what the handler of EXCEPTION_RAISED does at its firings, over and over; nothing
            listens to it if there are none.
        removed: add a handler of EXCEPTION_RAISED, and take it away before the first run.
        listeners: further handlers.
    """

    runs: tuple[Run, ...] = (Run(),)
    acts: tuple[Act, ...] = ()
    quiet: frozenset[str] = frozenset()
    answers: tuple[Answer, ...] = ()
    removed: bool = False
    listeners: tuple[Listener, ...] = ()


# What is seen


@attrs.frozen
class Seen:
    """Hold what user code can see at one place."""

    what: str
    epoch: Any
    iteration: Any
    batch: Any
    output: Any
    limits: tuple[Any, ...]
    flags: tuple[Any, ...]
    last_event: str | None
    extra: object = None


@attrs.define
class Result:
    """Hold everything that was seen of a program.

    Attributes:
        seen: in order.
        rows: the rows of the list of defects that were met where they could not be mended, and at
            which place of `seen`: what comes behind may differ.
        endless: whether the program was left because it did not end.
        deeds: how often what was done.
    """

    seen: list[Seen] = attrs.field(factory=list)
    rows: dict[str, int] = attrs.field(factory=dict)
    endless: bool = False
    deeds: Counter[str] = attrs.field(factory=Counter)

    def cut(self, row: str) -> None:
        """Note that a row is met here."""
        self.rows.setdefault(row, len(self.seen))


class Side(Protocol):
    """One implementation of the Engine."""

    @property
    def stop_iteration(self) -> type[Exception]:
        """What is raised where a program raises StopIteration."""

    @property
    def events(self) -> Any:
        """The built-in events."""

    def engine(self, process: Callable[[Any, Any], Any], result: Result) -> Any:
        """Make an engine."""

    def place(self, engine: Any) -> str | None:
        """Name the event of the loop behind which an engine is, if this side can tell."""

    def last_event(self, engine: Any) -> Any:
        """Give what the engine says of the last event."""


class Mended(ignite.engine.Engine):
    """Run as pytorch-ignite 0.5.5 does, without the defects that are fixed here."""

    result: Result
    raised_by_handler: BaseException | None = None
    place: str | None = None
    fired_last: Any = None
    behind_stop: bool = False
    learned: bool = False
    _known: tuple[Any, Any] = (None, None)
    _began: bool = False

    @override
    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        if len(self.result.seen) > CAP or self.result.deeds["watched"] > 4 * CAP:
            raise Endless
        self.result.deeds["watched"] += 1
        self._notice_learning()
        name = getattr(event_name, "value", event_name)
        if name in WHERE:
            self.place = name
        # D18 and R-12: GET_BATCH_STARTED fires again where another event was fired behind
        # DATALOADER_STOP_ITERATION, because the loop looks at the last event, whatever it is.
        if name not in (CUSTOM, "interrupt"):
            self.behind_stop = name == "dataloader_stop_iteration"
        self.fired_last = event_name
        try:
            super()._fire_event(event_name, *event_args, **event_kwargs)
        finally:
            if self.behind_stop:
                self.last_event_name = ignite.engine.Events.DATALOADER_STOP_ITERATION
            self.remember()

    def remember(self) -> None:
        """Note the limits behind user code, to see what the loop itself changes."""
        self._known = self.state.epoch_length, self.state.max_epochs
        # a max_iters that is set below the iteration is overlooked until the epoch ends.
        limit = self.state.max_iters
        behind = limit is not None and self.state.iteration > limit
        if behind and self.place == "iteration_completed":
            self.result.cut("R-21")

    def _notice_learning(self) -> None:
        # where the data says how long an epoch is, max_epochs is set beside max_iters.
        length, max_epochs = self._known
        if length is None and self.state.epoch_length is not None:
            self.learned = True
            if self.state.epoch_length == 0:
                # C-16: the documented engine warns of an epoch that gets nothing.
                self.result.cut("C-16")
                if max_epochs is None:
                    self.result.cut("Q-30")  # nothing ends it but max_iters, which is never reached
            if self.state.max_iters is not None:
                self.state.max_epochs = max_epochs

    @override
    def _handle_exception(self, e: BaseException) -> None:
        # a suspended run that is dropped reports a GeneratorExit.
        # a handler that was there once swallows every exception.
        # C4: what a handler raised is handled a second time.
        if isinstance(e, GeneratorExit | Endless) or e is self.raised_by_handler:
            raise e
        if isinstance(e, ZeroDivisionError):
            # max_iters is divided by the length found out, which may be 0.
            self.result.cut("Q-08")
        if not self._event_handlers.get(ignite.engine.Events.EXCEPTION_RAISED):
            raise e
        try:
            super()._handle_exception(e)
        except BaseException as raised:
            self.raised_by_handler = raised
            raise

    @override
    def run(self, data: Any = None, *args: Any, **kwargs: Any) -> Any:
        state, known = self.state, self.state.epoch_length
        before = {name: getattr(state, name) for name in _CHECKED}
        self._began = False
        try:
            return super().run(data, *args, **kwargs)
        except BaseException:
            # the generator of a run that raised is kept, and the next run does nothing.
            course = self._internal_run_generator
            if course is not None and inspect.getgeneratorstate(course) == "GEN_CLOSED":
                self._internal_run_generator = None
            # arguments that are refused have been written into the state by then.
            if not self._began:
                vars(state).update(before, epoch_length=known)
            raise

    @override
    def _get_data_length(self, data: Any) -> int | None:
        length = super()._get_data_length(data)
        # D5: data of unknown length takes over the length that a run before found out.
        if length is None and self.learned:
            self.state.epoch_length = None
        return length

    @override
    def _internal_run(self) -> Any:
        self._began = True
        if self._internal_run_generator is None and self.state.iteration == 0:
            self.learned = False
        self.remember()
        return super()._internal_run()

    @override
    def load_state_dict(self, state_dict: Any) -> None:
        before = {name: getattr(self.state, name) for name in (*_CHECKED, "epoch_length")}
        try:
            super().load_state_dict(state_dict)
        except BaseException as error:
            # what is refused has been written by halves.
            vars(self.state).update(before)
            # E-42: an epoch length of 0 is divided by before it is refused.
            if isinstance(error, ZeroDivisionError):
                raise ValueError("epoch_length") from None
            raise
        # the suspended run is not dropped, and goes on with the new counters; so do the
        # stops that were asked of it.
        self.drop()
        self.should_terminate = self.should_terminate_single_epoch = False
        self.should_interrupt = False
        self.learned = False

    def drop(self) -> None:
        """Close a suspended run."""
        self._internal_run_generator = None


_CHECKED: Final = ("iteration", "epoch", "max_epochs", "max_iters")


class IgniteSide:
    """pytorch-ignite."""

    stop_iteration: type[Exception] = StandIn
    events: Any = ignite.engine.Events

    def engine(self, process: Callable[[Any, Any], Any], result: Result) -> Any:
        engine = Mended(process)
        engine.result = result
        return engine

    def place(self, engine: Any) -> str | None:
        place: str | None = engine.place
        return place

    def last_event(self, engine: Any) -> Any:
        return engine.fired_last


@attrs.frozen
class OurSide:
    """fengine."""

    semantics: Semantics = DOCUMENTED
    stop_iteration: type[Exception] = StopIteration
    events: Any = fengine.engine.Events

    def engine(self, process: Callable[[Any, Any], Any], result: Result) -> Any:
        return fengine.engine.Engine(process, semantics=self.semantics)

    def place(self, engine: Any) -> str | None:
        return None

    def last_event(self, engine: Any) -> Any:
        return engine.last_event_name


# Where a stop waits for the end of the iteration in the documented engine.
WINDOW: Final = frozenset(
    {
        "epoch_started",
        "get_batch_started",
        "get_batch_completed",
        "dataloader_stop_iteration",
        "iteration_started",
    }
)
# The events that move the loop on; the others are fired beside it.
WHERE: Final = frozenset(LOOP_EVENTS) - {"exception_raised", "interrupt"}


class Player:
    """Play a program on one side."""

    def __init__(self, program: Program, side: Side) -> None:
        self.program, self.side = program, side
        self.result = Result()
        self.engine = side.engine(self.process, self.result)
        self.engine.logger = _SILENT
        self.firings: Counter[str] = Counter()
        self.labels = 0
        self.handling = False
        self.acts = {
            key: [act.deed for act in program.acts if (act.place, act.firing) == key]
            for key in {(act.place, act.firing) for act in program.acts}
        }
        self.recorders = {
            name: _Recorder(self, name) for name in (*LOOP_EVENTS, CUSTOM) if name != PROCESS
        }
        self.engine.register_events(CUSTOM)
        for name in (*LOOP_EVENTS, CUSTOM):
            if name not in program.quiet and name != "exception_raised":
                self.engine.add_event_handler(self.event(name), self.recorders[name])
        if program.answers:
            self.engine.add_event_handler(
                self.event("exception_raised"), self.recorders["exception_raised"]
            )
        if program.removed:
            with self.engine.add_event_handler(self.event("exception_raised"), _nothing):
                pass
        for number, listener in enumerate(program.listeners):
            arguments = attrs.asdict(listener, filter=lambda field, value: value is not None)
            event = self.event(arguments.pop("event"))
            self.engine.add_event_handler(
                event(**arguments) if arguments else event, self.listen, number
            )

    def play(self) -> Result:
        for run in self.program.runs:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = self.warned  # type: ignore[assignment]  # a recorder
                self.run(run)
            if self.result.endless:
                break
        if isinstance(self.engine, Mended):
            self.engine.drop()
        return self.result

    def run(self, run: Run) -> None:
        for deed in run.before:
            try:
                self.do(deed)
            except BaseException as error:
                self.see("refused", _error_name(error))
            if isinstance(self.engine, Mended):
                self.engine.remember()
        if run.data.length == 0:
            self.result.cut("C-16")
        data = run.data.make(self.watch, self.label())
        limits = attrs.asdict(
            run, filter=attrs.filters.include("max_epochs", "max_iters", "epoch_length")
        )
        limits = {name: value for name, value in limits.items() if value is not None}
        try:
            state = self.engine.run(data, **limits)
        except Endless:
            self.result.endless = True
        except BaseException as error:
            self.see("raised", _error_name(error))
            self.result.deeds["raised"] += 1
        else:
            self.see("returned", (state is self.engine.state, *self.engine.state_dict().items()))
            self.result.deeds["returned"] += 1

    def watch(self) -> None:
        """Leave a run that does not end."""
        self.result.deeds["watched"] += 1
        if self.result.endless or self.result.deeds["watched"] > 8 * CAP:
            self.result.endless = True
            raise Endless

    def warned(self, *args: Any) -> None:
        self.result.deeds["dry"] += 1
        if self.engine.state.max_epochs is None:
            self.result.cut("Q-30")
        self.see("warning")

    def label(self) -> str:
        self.labels += 1
        return "abcdefghijklmnopqrstuvwxyz"[self.labels % 26]

    def event(self, name: str) -> Any:
        return name if name == CUSTOM else self.side.events(name)

    def see(self, what: str, extra: object = None) -> None:
        if len(self.result.seen) > CAP:
            self.result.endless = True
            raise Endless
        state = self.engine.state
        last = self.side.last_event(self.engine)
        self.result.seen.append(
            Seen(
                what,
                state.epoch,
                state.iteration,
                state.batch,
                state.output,
                (state.epoch_length, state.max_epochs, state.max_iters),
                (
                    self.engine.should_terminate,
                    self.engine.should_terminate_single_epoch,
                    self.engine.should_interrupt,
                ),
                None if last is None else getattr(last, "value", last),
                extra,
            )
        )

    def process(self, engine: Any, batch: Any) -> Any:
        if isinstance(engine, Mended):
            engine.place = PROCESS
            engine._notice_learning()
        self.see(PROCESS, (engine is self.engine, batch))
        try:
            self.act(PROCESS)
        finally:
            if isinstance(engine, Mended):
                engine.remember()
        return f"out {batch}"

    def listen(self, engine: Any, number: int) -> None:
        self.see(f"listener {number}", engine is self.engine)

    def act(self, place: str) -> None:
        self.firings[place] += 1
        for deed in self.acts.get((place, self.firings[place]), ()):
            self.result.deeds[place] += 1
            self.do(deed)

    def answer(self, error: BaseException) -> None:
        """Handle an exception as the program says."""
        answers = self.program.answers or ("take",)
        answer = answers[self.firings["exception_raised"] % len(answers)]
        self.result.deeds[f"answer {answer}"] += 1
        self.handling = True
        try:
            self.act("exception_raised")
        finally:
            self.handling = False
        if answer == "raise":
            raise error
        if answer == "replace":
            raise OtherFault
        if answer == "stop":
            raise self.side.stop_iteration()

    def do(self, deed: Deed) -> None:
        self.result.deeds[type(deed).__name__] += 1
        engine = self.engine
        if isinstance(deed, Stop):
            self.result.deeds[f"{deed.method} {deed.skip}"] += 1
            self.stops(deed.method)
            if deed.method == "terminate":
                engine.terminate(**({"skip_completed": True} if deed.skip else {}))
            else:
                engine.terminate_epoch(**({"skip_epoch_completed": True} if deed.skip else {}))
        elif isinstance(deed, Pause):
            engine.interrupt()
        elif isinstance(deed, Flag):
            if deed.value:
                self.stops(
                    {
                        "should_terminate": "terminate",
                        "should_terminate_single_epoch": "terminate_epoch",
                    }.get(deed.name, "")
                )
            setattr(engine, deed.name, deed.value)
        elif isinstance(deed, Throw):
            self.result.deeds[f"throw {deed.kind}"] += 1
            kinds: dict[str, type[BaseException]] = {
                "error": Fault,
                "keyboard": KeyboardInterrupt,
                "exit": SystemExit,
                "stop": self.side.stop_iteration,
            }
            raise kinds[deed.kind]
        elif isinstance(deed, Put):
            self.result.deeds[f"put {deed.name}"] += 1
            setattr(engine.state, deed.name, deed.value)
        elif isinstance(deed, Give):
            self.result.deeds[deed.how] += 1
            data = deed.data.make(self.watch, self.label())
            if deed.how == "dataloader":
                engine.state.dataloader = data
            elif data is not None:
                engine.set_data(data)
        elif isinstance(deed, Fire):
            if isinstance(engine, Mended):
                engine.remember()
            engine.fire_event(self.event(deed.event))
        elif isinstance(deed, Load):
            engine.load_state_dict(
                {
                    deed.counter: deed.done,
                    deed.limit: deed.value,
                    "epoch_length": deed.epoch_length,
                }
            )
        elif isinstance(deed, Listen):
            event, recorder = self.event(deed.event), self.recorders[deed.event]
            if deed.listen:
                engine.add_event_handler(event, recorder)
            elif engine.has_event_handler(recorder, event):
                engine.remove_event_handler(recorder, event)

    def stops(self, method: str) -> None:
        """Note a stop that the documented engine obeys later."""
        place = self.side.place(self.engine)
        waits = place in WINDOW or (place == "started" and method == "terminate_epoch")
        if method and waits and not self.handling:
            self.result.cut("C-07")


class _Recorder:
    """Record an event, and act; equal only to itself."""

    def __init__(self, player: Player, name: str) -> None:
        self.player, self.name = player, name

    def __call__(self, engine: Any, *args: Any, **kwargs: Any) -> None:
        player = self.player
        extra = (*(_error_name(arg) for arg in args), *sorted(kwargs.items()))
        player.see(self.name, (engine is player.engine, *extra))
        if self.name == "exception_raised":
            player.answer(args[0])
        else:
            player.act(self.name)


def _error_name(error: object) -> str:
    """Name an exception, and one of our own classes by the built-in one that it stands for."""
    if type(error) is StandIn:
        return "StopIteration"
    return next(kind for kind in type(error).__mro__ if "fengine" not in kind.__module__).__name__


def _nothing(engine: Any, error: BaseException) -> None:
    pass


_SILENT: Final = logging.getLogger("silent")
_SILENT.disabled = True


def play(program: Program, side: Side) -> Result:
    """Play a program on one side."""
    return Player(program, side).play()


# Where a row is met that cannot be mended, the comparison ends.
CUT_EVENT: Final = "terminate_single_epoch"

CUTS: Final = ("Q-08", "Q-30", "R-21")
CUTS_DOCUMENTED: Final = (*CUTS, "C-07", "C-16")


def compare(program: Program, semantics: Semantics) -> tuple[Result, Result]:
    """Play a program on both sides, and assert that what is seen is equal.

    Returns:
        What was seen here and there.
    """
    theirs, ours = play(program, IgniteSide()), play(program, OurSide(semantics))
    rows = CUTS_DOCUMENTED if semantics is DOCUMENTED else CUTS
    end = min((theirs.rows[row] for row in rows if row in theirs.rows), default=None)
    assert ours.seen[:end] == _fetched(ours, theirs)[:end], explain(program, ours, theirs)
    if end is None:
        assert ours.endless == theirs.endless, explain(program, ours, theirs)
    elif "Q-30" in theirs.rows:
        assert not ours.endless, explain(program, ours, theirs)
    return ours, theirs


def _fetched(ours: Result, theirs: Result) -> list[Seen]:
    """Row A-018: the count of an epoch cut at GET_BATCH_COMPLETED has the batch fetched there.

    ignite counts it only behind that event; ours is the number that the row documents.
    """
    seen = []
    for here, there in zip_longest(ours.seen, theirs.seen):
        counted = there is not None and here is not None and there.what == CUT_EVENT == here.what
        if counted and here.extra != there.extra and _counter(here) == _counter(there) + 1:
            seen.append(attrs.evolve(there, extra=here.extra))
        elif there is not None:
            seen.append(there)
    return seen


def _counter(one: Seen) -> int:
    assert isinstance(one.extra, tuple)
    return int(dict(one.extra[1:])["iter_counter"])


def explain(program: Program, ours: Result, theirs: Result) -> str:
    """Show where two results part."""
    same = 0
    for here, there in zip(ours.seen, theirs.seen, strict=False):
        if here != there:
            break
        same += 1
    shown = [f"  both: {seen}" for seen in ours.seen[max(0, same - 6) : same]]
    shown += [f"  ours: {seen}" for seen in ours.seen[same : same + 3]]
    shown += [f"theirs: {seen}" for seen in theirs.seen[same : same + 3]]
    shown.append(f"endless: {ours.endless}, {theirs.endless}; rows: {ours.rows}, {theirs.rows}")
    return "\n".join([str(program), *shown])


# Strategies


def datas() -> st.SearchStrategy[Data]:
    """Generate data of none to four batches."""
    return st.builds(
        Data,
        st.sampled_from(get_args(Kind)),
        st.sampled_from([2, 3, 1, 2, 3, 4, 0]),
        st.sampled_from([3, 1, 2, 5, 0]),
        st.sampled_from([None, None, None, None, None, None, None, 0, 1, 2, 4]),
    )


def _puts() -> st.SearchStrategy[Put]:
    small = st.integers(0, 6)
    return st.one_of(
        st.builds(Put, st.sampled_from(["batch", "output"]), st.sampled_from(["put", None])),
        st.builds(
            Put, st.sampled_from(["max_epochs", "max_iters", "epoch_length"]), small | st.none()
        ),
        st.builds(Put, st.sampled_from(["epoch", "iteration"]), small),
    )


def _flags() -> st.SearchStrategy[Flag]:
    return st.sampled_from(
        [
            Flag("should_terminate", True),
            Flag("should_terminate", "skip_completed"),
            Flag("should_terminate", False),
            Flag("should_terminate_single_epoch", True),
            Flag("should_terminate_single_epoch", "skip_epoch_completed"),
            Flag("should_terminate_single_epoch", False),
            Flag("should_interrupt", True),
            Flag("should_interrupt", False),
        ]
    )


def deeds() -> st.SearchStrategy[Deed]:
    """Generate something to do; what changes the course of a run more often than the rest."""
    stops = st.builds(Stop, st.sampled_from(["terminate_epoch", "terminate"]), st.booleans())
    pauses = st.just(Pause())
    throws = st.builds(Throw, st.sampled_from(["error", "stop", "keyboard", "exit"]))
    others: list[st.SearchStrategy[Deed]] = [
        _puts(),
        st.builds(Give, datas(), st.sampled_from(["dataloader", "set_data"])),
        st.just(Fire()),
        _flags(),
        st.builds(Listen, st.sampled_from([*LOOP_EVENTS, CUSTOM]), st.booleans()),
    ]
    return st.one_of(stops, pauses, throws, stops, pauses, throws, *others)


def _loads() -> st.SearchStrategy[Load]:
    return st.builds(
        Load,
        st.sampled_from(["iteration", "epoch"]),
        st.integers(0, 5),
        st.sampled_from(["max_epochs", "max_iters"]),
        st.integers(0, 7) | st.none(),
        st.integers(0, 4) | st.none(),
    )


def _limits(by_iterations: bool) -> st.SearchStrategy[tuple[int | None, int | None]]:
    epochs = st.tuples(st.integers(1, 3), st.none())
    iterations = st.tuples(st.none(), st.integers(1, 7))
    neither = st.just((None, None))
    usual = iterations if by_iterations else epochs
    odd = st.sampled_from([(0, None), (None, 0), (2, 2)])
    return st.one_of(usual, usual, usual, neither, neither, neither, epochs | iterations | odd)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Run, ...]:
    """Generate calls of run, most of which are possible behind those before them."""
    limits = _limits(draw(st.booleans()))
    length = draw(st.sampled_from([None, None, None, 1, 2, 3, 4]))
    lengths = st.sampled_from([None, None, None, length, length]) | st.integers(0, 5)
    nothing: st.SearchStrategy[tuple[Deed, ...]] = st.just(())
    something = st.lists(deeds() | _loads(), min_size=1, max_size=2).map(tuple)
    calls = []
    for number in range(draw(st.integers(1, 4))):
        data = draw(datas())
        given_length = draw(lengths) if number else length
        if data.kind == "none" and number == 0 and length is None:
            given_length = data.size
        before = draw(st.one_of(nothing, nothing, nothing, something))
        calls.append(Run(data, *draw(limits), given_length, before))
    return tuple(calls)


def _consequence(deed: Deed) -> str | None:
    if isinstance(deed, Stop):
        return {"terminate": "terminate", "terminate_epoch": "terminate_single_epoch"}[deed.method]
    if isinstance(deed, Pause):
        return "interrupt"
    if isinstance(deed, Throw):
        return "exception_raised"
    if isinstance(deed, Fire):
        return deed.event
    return None


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Generate whole programs."""
    often = (PROCESS, "iteration_started", "iteration_completed", "get_batch_started")
    acts = st.builds(
        Act,
        st.sampled_from([*often, *LOOP_EVENTS, CUSTOM]),
        st.sampled_from([1, 2, 3, 1, 2, 4]),
        deeds(),
    )
    listeners = st.builds(
        lambda event, kind, number: Listener(event, **({kind: number} if kind else {})),
        st.sampled_from(COUNTED),
        st.sampled_from(["", "every", "once", "after"]),
        st.integers(1, 3),
    )
    quiet = st.frozensets(st.sampled_from(LOOP_EVENTS), max_size=len(LOOP_EVENTS))
    no_event: st.SearchStrategy[frozenset[str]] = st.just(frozenset())
    no_answer: st.SearchStrategy[tuple[Answer, ...]] = st.just(())
    answers = st.lists(st.sampled_from(get_args(Answer)), min_size=1, max_size=2).map(tuple)
    chosen = draw(st.lists(acts, min_size=draw(st.integers(0, 2)), max_size=4))
    for act in tuple(chosen):
        # Something more at the rare event that an act leads to.
        place = _consequence(act.deed)
        if place is not None and draw(st.sampled_from([False, True])):
            chosen.append(Act(place, draw(st.sampled_from([1, 1, 2])), draw(deeds())))
    return Program(
        draw(runs()),
        tuple(chosen),
        draw(no_event | no_event | quiet),
        draw(no_answer | answers),
        draw(st.booleans()),
        tuple(draw(st.lists(listeners, max_size=2))),
    )
