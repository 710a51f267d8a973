"""Deeds: what user code does to an engine, in a handler, in the process function, between runs.

A deed is a value, and does itself on the side that the player plays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from tests.engine.differential.batches import Data, Fault

if TYPE_CHECKING:
    from tests.engine.differential.player import Player

CUSTOM: Final = "custom"  # a string
TICK: Final = "tick"  # a member of an EventEnum, which an attribute of the state counts
TOCK: Final = "tock"  # another, which nothing counts
OWN_EVENTS: Final = (CUSTOM, TICK, TOCK)

Filter: TypeAlias = tuple[tuple[str, Any], ...]


@attrs.frozen
class Stop:
    """Call `terminate` or `terminate_epoch`, with or without its flag."""

    method: Literal["terminate", "terminate_epoch"] = "terminate"
    skip: bool = False

    def do(self, player: Player) -> None:
        flag = {"terminate": "skip_completed", "terminate_epoch": "skip_epoch_completed"}
        getattr(player.engine, self.method)(**({flag[self.method]: True} if self.skip else {}))


@attrs.frozen
class Pause:
    """Call `interrupt`."""

    def do(self, player: Player) -> None:
        player.engine.interrupt()


@attrs.frozen
class Flag:
    """Write one of the flags that say what was asked."""

    name: Literal["should_terminate", "should_terminate_single_epoch", "should_interrupt"]
    value: bool | str

    def do(self, player: Player) -> None:
        setattr(player.engine, self.name, self.value)


@attrs.frozen
class Throw:
    """Raise."""

    kind: Literal["error", "keyboard", "exit", "stop"] = "error"

    def do(self, player: Player) -> None:
        kinds: dict[str, type[BaseException]] = {
            "error": Fault,
            "keyboard": KeyboardInterrupt,
            "exit": SystemExit,
            "stop": player.side.stop_iteration,
        }
        raise kinds[self.kind]


@attrs.frozen
class Put:
    """Write an attribute of the state."""

    name: str
    value: Any

    def do(self, player: Player) -> None:
        setattr(player.engine.state, self.name, self.value)


@attrs.frozen
class Give:
    """Replace the data."""

    data: Data
    how: Literal["dataloader", "set_data"] = "dataloader"

    def do(self, player: Player) -> None:
        data = player.make(self.data)
        if self.how == "dataloader":
            player.engine.state.dataloader = data
        else:
            player.engine.set_data(data)


@attrs.frozen
class Fire:
    """Fire an event by hand."""

    event: str = CUSTOM

    def do(self, player: Player) -> None:
        player.engine.fire_event(player.side.event(self.event))


@attrs.frozen
class Tick:
    """Advance the counter of an event of one's own, and fire it."""

    def do(self, player: Player) -> None:
        player.engine.state.ticks += 1
        player.engine.fire_event(player.side.event(TICK))


@attrs.frozen
class Load:
    """Load progress; some of it makes no sense."""

    counter: Literal["iteration", "epoch"] = "iteration"
    done: int = 0
    limit: Literal["max_epochs", "max_iters"] = "max_epochs"
    value: int | None = 3
    epoch_length: int | None = 2
    alpha: bool = True

    def do(self, player: Player) -> None:
        own = {"alpha": self.done} if self.alpha else {}
        player.engine.load_state_dict(
            {
                self.counter: self.done,
                self.limit: self.value,
                "epoch_length": self.epoch_length,
                **own,
            }
        )


@attrs.frozen
class Save:
    """Write down what `state_dict` gives."""

    def do(self, player: Player) -> None:
        player.result.saved.append(player.engine.state_dict())
        player.see("saved", tuple(player.result.saved[-1].items()))


@attrs.frozen
class Restore:
    """Load what was written down last, here or by the other side."""

    def do(self, player: Player) -> None:
        if player.result.saved:
            player.engine.load_state_dict(player.last_saved())


@attrs.frozen
class Listen:
    """Add a recorder to an event, or take every one of them away."""

    event: str
    listen: bool = True

    def do(self, player: Player) -> None:
        event, recorder = player.side.event(self.event), player.recorders[self.event]
        if self.listen:
            player.engine.add_event_handler(event, recorder)
        else:
            player.engine.remove_event_handler(recorder, event)


@attrs.frozen
class Listener:
    """Listen to events, each with the filter if it takes one.

    Args:
        events: joined to one list if there are several.
        filter: the arguments that an event is called with.
        bare: listen with a handler that does not take the engine.
    """

    events: tuple[str, ...]
    filter: Filter = ()
    bare: bool = False


@attrs.frozen
class Attach:
    """Add a listener."""

    listener: Listener

    def do(self, player: Player) -> None:
        player.attach(self.listener)


@attrs.frozen
class Remove:
    """Take a listener away through its handle."""

    listener: int = 0

    def do(self, player: Player) -> None:
        if self.listener < len(player.handles):
            player.handles[self.listener].remove()


@attrs.frozen
class Ask:
    """Ask which handlers there are, and whether an event is registered."""

    event: str

    def do(self, player: Player) -> None:
        event, engine = player.side.event(self.event), player.engine
        known = engine.has_registered_events(event), engine.has_registered_events("unknown")
        handlers = (player.recorders[self.event], player.listen, player.listen_bare)
        filtered = event if self.event == CUSTOM else event(every=7)
        there = [engine.has_event_handler(handler, filtered) for handler in handlers]
        anywhere = [engine.has_event_handler(handler) for handler in handlers]
        player.see("asked", (*known, *there, *anywhere))


@attrs.frozen
class RunInside:
    """Call `run` of the engine that runs; between runs, of one that is at rest."""

    def do(self, player: Player) -> None:
        player.engine.run(player.make(Data()))


Deed: TypeAlias = (
    Stop
    | Pause
    | Flag
    | Throw
    | Put
    | Give
    | Fire
    | Tick
    | Load
    | Save
    | Restore
    | Listen
    | Attach
    | Remove
    | Ask
    | RunInside
)
