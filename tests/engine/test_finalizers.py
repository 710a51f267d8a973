"""What is let go of may run code of the user's, which sees the state whole and may write to it."""

from __future__ import annotations

from typing import Any

from fengine.engine import Engine


def test_a_finalizer_sees_the_batch_that_the_output_makes_room_for() -> None:
    seen: list[tuple[int, Any]] = []
    over = False

    class Output:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            if not over:
                seen.append((engine.state.iteration, engine.state.batch))
                if self.number == 2:
                    engine.state.max_epochs = 1

    engine = Engine(lambda engine, batch: Output(batch))
    engine.run([1, 2, 3], max_epochs=2)
    over = True
    assert seen == [(1, 2), (2, 3)]
    assert (engine.state.max_epochs, engine.state.iteration) == (1, 3)
