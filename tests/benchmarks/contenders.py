"""Contenders: the same work, done by a bare loop, the core, the Engine and ignite.

Each is a function without arguments that runs once over the same data. Whatever can be made before
the run is made before it. torch and ignite are imported only where they are used, so that the core
can be measured where they are not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeAlias, final

import attrs

from fengine import Events, Loop, State, outputs, tap

if TYPE_CHECKING:
    import torch

Run: TypeAlias = Callable[[], object]
Numbers: TypeAlias = State[int, int]


@final
@attrs.frozen
class Workload:
    """Say how many handlers of ITERATION_COMPLETED there are, and at which firings they run."""

    handlers: int
    every: int | None = None

    @property
    def name(self) -> str:
        """What the tables call it."""
        return str(self.handlers) + (f", every={self.every}" if self.every else "")


NO_HANDLERS: Final = Workload(0)
ONE: Final = Workload(1)
RARE: Final = Workload(10, every=100)
HUNDRED: Final = Workload(100)
WORKLOADS: Final = (NO_HANDLERS, ONE, Workload(10), RARE, HUNDRED)


def identity(batch: int) -> int:
    """Be the step of a bare loop and of the core."""
    return batch


def identity_in_engine(engine: object, batch: int) -> int:
    """Be the step of an engine."""
    return batch


# Handlers are different functions, as a user's are: a call that always meets the same function is
# made faster by the interpreter.


def state_handler() -> Callable[[Numbers], Numbers]:
    """Make a handler of the core that changes nothing."""

    def handler(state: Numbers) -> Numbers:
        return state

    return handler


def engine_handler() -> Callable[[object], None]:
    """Make a handler of an engine that does nothing."""

    def handler(engine: object) -> None:
        pass

    return handler


def bare(data: Iterable[int]) -> Run:
    """Call the step in a for loop, with no handler."""

    def run() -> int | None:
        output = None
        for batch in data:
            output = identity(batch)
        return output

    return run


def core(data: Iterable[int], workload: Workload) -> Run:
    """Run a `Loop`."""
    loop: Loop[int, int, None] = Loop(outputs(identity))
    done = Events.ITERATION_COMPLETED
    for _ in range(workload.handlers):
        loop = loop.on(done(every=workload.every) if workload.every else done, state_handler())
    return lambda: loop.run(data)


def engine(data: Iterable[int], workload: Workload) -> Run:
    """Run a `fengine.engine.Engine`."""
    from fengine.engine import Engine, Events

    made = Engine(identity_in_engine)
    done = Events.ITERATION_COMPLETED
    for _ in range(workload.handlers):
        made.add_event_handler(
            done(every=workload.every) if workload.every else done, engine_handler()
        )
    return lambda: made.run(data)


def ignite(data: Iterable[int], workload: Workload) -> Run:
    """Run an `ignite.engine.Engine`."""
    from ignite.engine import Engine, Events

    made = Engine(identity_in_engine)
    done = Events.ITERATION_COMPLETED
    for _ in range(workload.handlers):
        made.add_event_handler(
            done(every=workload.every) if workload.every else done, engine_handler()
        )
    return lambda: made.run(data)


HAND: Final = "hand-written loop"
AGAIN: Final = "hand-written loop, a second time"
FUNCTIONAL: Final = "fengine.training.supervised"
ENGINE: Final = "fengine.engine trainer"
IGNITE: Final = "ignite trainer"


@final
class Supervised:
    """Make trainers of equal models on equal data: Linear(8, 1), batches of 1, on the CPU.

    Every trainer reads the loss with `.item()` in each iteration. Targets are noise, so that the
    weights never settle.
    """

    def __init__(self, batches: int, *, with_ignite: bool) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)
        self.data = [
            (torch.randn(1, 8, generator=generator), torch.randn(1, 1, generator=generator))
            for _ in range(batches)
        ]
        self.loss_fn = torch.nn.MSELoss()
        self.models: dict[str, torch.nn.Module] = {}
        self.runs: dict[str, Run] = {
            HAND: self._hand_written(HAND),
            AGAIN: self._hand_written(AGAIN),
            FUNCTIONAL: self._functional(),
            ENGINE: self._engine(),
        }
        if with_ignite:
            self.runs[IGNITE] = self._ignite()

    def differing_weights(self, name: str) -> int:
        """Count the parameters that are not bitwise those of the hand-written loop."""
        import torch

        pairs = zip(self.models[HAND].parameters(), self.models[name].parameters(), strict=True)
        return sum(not torch.equal(by_hand, trained) for by_hand, trained in pairs)

    def _model(self, name: str) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        import torch

        torch.manual_seed(0)
        model = self.models[name] = torch.nn.Linear(8, 1)
        return model, torch.optim.SGD(model.parameters(), lr=0.01)

    def _hand_written(self, name: str) -> Run:
        model, optimizer = self._model(name)
        data, loss_fn = self.data, self.loss_fn

        def run() -> None:
            for x, y in data:
                optimizer.zero_grad()
                loss = loss_fn(model(x), y)
                loss.backward()
                optimizer.step()
                loss.item()

        return run

    def _functional(self) -> Run:
        from fengine.training import supervised

        model, optimizer = self._model(FUNCTIONAL)

        def read(state: State[tuple[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
            return state.output.item()

        loop: Loop[tuple[torch.Tensor, torch.Tensor], torch.Tensor, None] = Loop(
            supervised(model, optimizer, self.loss_fn)
        ).on(Events.ITERATION_COMPLETED, tap(read))
        return lambda: loop.run(self.data)

    def _engine(self) -> Run:
        from fengine.engine import create_supervised_trainer

        trainer = create_supervised_trainer(*self._model(ENGINE), self.loss_fn)
        return lambda: trainer.run(self.data)

    def _ignite(self) -> Run:
        from ignite.engine import create_supervised_trainer

        trainer = create_supervised_trainer(*self._model(IGNITE), self.loss_fn)
        return lambda: trainer.run(self.data)
