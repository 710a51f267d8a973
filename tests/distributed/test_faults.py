"""Faults of one rank, and what becomes of all: nobody waits for ever, and nobody goes on alone.

Each program is run by two processes, or four, over gloo. A model that both train makes them wait
for each other in each step, as in any training on several ranks.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest
import torch
from torch import nn

from fengine import SKIP_BATCH, Events, Loop, State
from fengine.checkpoints import Preemption
from fengine.distributed import (
    SHORTEST,
    WHEN_ASKED,
    AgreeEvery,
    PeerFailed,
    Ranks,
    TorchRanks,
    even,
    on_rank,
)
from fengine.features import early_stopping, evaluation
from fengine.metrics import mean, mean_loss
from fengine.run.ranks import Agreeing
from fengine.training import TensorBatches, evaluation_step, training_step
from tests.distributed.models import mlp, rows, shared, training, weights
from tests.distributed.processes import Ended, on_ranks, together, values

AnyState: TypeAlias = State[Any, Any, Any]
Stood: TypeAlias = tuple[int, int, str]


def stood(final: AnyState) -> Stood:
    return final.epoch, final.iteration, final.status.value


def is_there(state: AnyState, ranks: Ranks, rank: int = 1, iteration: int = 3) -> bool:
    return ranks.rank == rank and state.iteration == iteration


class Boom(Exception):
    """Go wrong."""


# What any rank asks, all obey.


def nothing_wrong(ranks: Ranks) -> tuple[Stood, list[list[float]]]:
    loop, data = training(ranks)
    final = loop.run(data, max_epochs=3)
    model: Any = loop.external["model"]
    return stood(final), [one.flatten().tolist() for one in weights(model)]


def test_nothing_is_wrong() -> None:
    one, other = together(nothing_wrong)
    assert one == other
    assert one[0] == (3, 18, "completed")


def asking(ranks: Ranks, what: str, agree: Agreeing) -> Stood:
    def ask(state: AnyState) -> AnyState:
        asked: AnyState = getattr(state, what)() if is_there(state, ranks) else state
        return asked

    loop, data = training(ranks, agree=agree)
    return stood(loop.on(Events.ITERATION_COMPLETED, ask).run(data, max_epochs=3))


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("terminate", (1, 3, "terminated")),
        ("terminate_epoch", (3, 15, "completed")),
        ("interrupt", (1, 3, "interrupted")),
    ],
)
def test_what_one_rank_asks_all_obey(what: str, expected: Stood) -> None:
    assert values(on_ranks(2, asking, what, AgreeEvery(1))) == [expected] * 2


def test_ranks_that_agree_less_often_obey_later() -> None:
    assert values(on_ranks(2, asking, "terminate", AgreeEvery(5))) == [(1, 5, "terminated")] * 2


def test_ranks_that_agree_when_asked_obey_one_iteration_later() -> None:
    assert values(on_ranks(4, asking, "interrupt", WHEN_ASKED)) == [(1, 4, "interrupted")] * 4


def stopping_early(ranks: Ranks) -> Stood:
    loop, data = training(ranks)
    stop = early_stopping("loss", mode="max", patience=1)  # the loss falls, so it is soon
    return stood((loop | mean("loss") | stop).run(data, max_epochs=9))


def test_early_stopping_stops_all_by_the_metric_of_all() -> None:
    assert together(stopping_early) == [(2, 12, "terminated")] * 2


def preempted(ranks: Ranks, by_all: bool) -> tuple[int, str, int]:
    loop, data = training(ranks)

    def end(state: AnyState) -> AnyState:
        if is_there(state, ranks) or (by_all and state.iteration == 3):
            os.kill(os.getpid(), signal.SIGTERM)
        return state

    with Preemption(signal.SIGTERM) as preemption:
        final = loop.on(Events.ITERATION_STARTED, end).run(
            data, max_epochs=3, preemption=preemption
        )
    return final.iteration, final.status.value, loop.resume(final, data).iteration


@pytest.mark.parametrize("by_all", [False, True])
def test_sigterm_pauses_all_at_the_same_iteration(by_all: bool) -> None:
    assert values(on_ranks(2, preempted, by_all)) == [(3, "interrupted", 18)] * 2


def preempted_within(ranks: Ranks) -> tuple[int, str, dict[str, float]]:
    loop, data = training(ranks)
    model: Any = loop.external["model"]

    def end(state: AnyState) -> AnyState:
        if is_there(state, ranks, iteration=2):
            os.kill(os.getpid(), signal.SIGTERM)
        return state

    held_out = Loop(evaluation_step(model), ranks=ranks) | mean_loss(nn.MSELoss())
    with Preemption(signal.SIGTERM) as preemption:
        final = (loop | evaluation(held_out.on(Events.ITERATION_COMPLETED, end), data)).run(
            data, max_epochs=2, preemption=preemption
        )
    whole = (loop | evaluation(held_out, data)).resume(final, data)
    return final.iteration, final.status.value, dict(whole.metrics)


def test_sigterm_within_an_evaluation_pauses_all_before_it() -> None:
    one, other = together(preempted_within)
    assert one == other
    assert one[:2] == (6, "interrupted")


# A failure leaves its own rank as itself, and the others as a PeerFailed.


def failing(ranks: Ranks, where: str) -> Stood:
    loop, data = training(ranks)

    def fail(state: AnyState, *payload: object) -> AnyState:
        if is_there(state, ranks):
            if where == "ctrl-c":
                signal.raise_signal(signal.SIGINT)
            raise Boom(f"it is too late\non rank {ranks.rank}")
        return state

    if where == "building" and ranks.rank:
        raise Boom("it is too early")
    if where == "step":
        model = shared(mlp(), ranks)
        calls: list[int] = []

        def loss(model: nn.Module, batch: Any) -> Any:
            calls.append(1)
            if ranks.rank == 1 and len(calls) == 3:
                raise Boom("it is too late")
            return model(batch[0]).mean()

        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        loop = Loop(training_step(model, optimizer, loss=loss), ranks=ranks)
        return stood(loop.run(data))
    event = Events.ITERATION_STARTED if where == "before" else Events.ITERATION_COMPLETED
    loop = loop.on(event, fail)
    if where == "recovered":
        loop = loop.on(Events.EXCEPTION_RAISED, lambda state, error: state.recover(SKIP_BATCH))
    return stood(loop.run(data, max_epochs=3))


def assert_told(ends: list[Ended], error: str, words: str) -> None:
    *others, failed = [*ends[:1], *ends[2:], ends[1]]
    assert (failed.error, failed.code) == (error, 1)
    for other in others:
        assert (other.error, other.rank, other.code) == ("PeerFailed", 1, 1), other
        assert f"rank 1 failed: {error}{words}" in other.words


@pytest.mark.parametrize("where", ["handler", "before", "step"])
def test_others_learn_who_has_failed_and_where(where: str) -> None:
    ends = on_ranks(2, failing, where)
    assert_told(ends, "Boom", ": it is too late at epoch 1, iteration 3")
    assert ends[1].words.startswith("it is too late")


def test_four_ranks_learn_who_has_failed() -> None:
    ends = on_ranks(4, failing, "handler")
    assert_told(ends, "Boom", ": it is too late at epoch 1, iteration 3")


def test_others_learn_who_has_failed_where_the_first_rank_has_the_store() -> None:
    ends = on_ranks(2, failing, "handler", agent=False)
    assert_told(ends, "Boom", ": it is too late at epoch 1, iteration 3")
    first, second = on_ranks(2, failing_first, agent=False)
    assert first.error == "Boom"
    assert (second.error, second.rank, second.words) == (
        "PeerFailed",
        0,
        "rank 0 failed: Boom: first at epoch 1, iteration 3",
    )


def failing_first(ranks: Ranks) -> None:
    loop, data = training(ranks)

    def fail(state: AnyState) -> AnyState:
        if is_there(state, ranks, rank=0):
            raise Boom("first")
        return state

    loop.on(Events.ITERATION_COMPLETED, fail).run(data)


def test_others_learn_of_a_failure_outside_the_run() -> None:
    assert_told(on_ranks(2, failing, "building"), "Boom", ": it is too early")


def test_ctrl_c_on_one_rank_ends_all() -> None:
    assert_told(on_ranks(2, failing, "ctrl-c"), "KeyboardInterrupt", " at epoch 1, iteration 3")


def test_one_rank_cannot_recover_by_itself() -> None:
    ends = on_ranks(2, failing, "recovered")
    assert_told(ends, "Boom", ": it is too late at epoch 1, iteration 3")
    assert "one of 2 ranks cannot go on by itself, so recover() had no effect" in ends[1].words


def all_failing(ranks: Ranks) -> None:
    loop, data = training(ranks)

    def fail(state: AnyState) -> AnyState:
        raise Boom(f"rank {ranks.rank}")

    loop.on(Events.EPOCH_STARTED, fail).run(data)


def test_an_exception_of_its_own_leaves_each_rank() -> None:
    ends = on_ranks(2, all_failing)
    assert [end.error for end in ends] == ["Boom", "Boom"]
    assert [end.words.splitlines()[0] for end in ends] == ["rank 0", "rank 1"]


def failing_at_the_end(ranks: Ranks) -> None:
    loop, data = training(ranks)

    def fail(state: AnyState, outcome: object) -> AnyState:
        if ranks.rank == 1:
            raise Boom("at the very end")
        return state

    loop.on(Events.EXITED, fail).run(data)


def test_others_learn_of_a_failure_at_the_end() -> None:
    assert_told(on_ranks(2, failing_at_the_end), "Boom", ": at the very end")


def killed(ranks: Ranks, number: int) -> None:
    loop, data = training(ranks)

    def die(state: AnyState) -> AnyState:
        if is_there(state, ranks, rank=1):
            os.kill(os.getpid(), number)
        return state

    loop.on(Events.ITERATION_STARTED, die).run(data, max_epochs=3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_others_name_a_rank_that_was_killed(number: int) -> None:
    first, second = on_ranks(2, killed, number, grace=1.0)
    assert second.code == -number
    assert (first.error, first.rank) == ("PeerFailed", 1)
    assert "it does not answer: it hangs, was killed, or has left early" in first.words


def hanging(ranks: Ranks) -> None:
    loop, data = training(ranks)

    def hang(state: AnyState) -> AnyState:
        if is_there(state, ranks):
            time.sleep(8)
        return state

    loop.on(Events.ITERATION_COMPLETED, hang).run(data, max_epochs=3)


def test_others_name_a_rank_that_hangs() -> None:
    first, second = on_ranks(2, hanging, limit=3.0, grace=0.5)
    assert (first.error, first.rank) == ("PeerFailed", 1)
    assert "it does not answer: it hangs" in first.words
    assert second.error == "PeerFailed"


# Ranks that differ find that out at once.


def differing(ranks: Ranks, what: str) -> None:
    loop, data = training(ranks)
    epochs = 3
    if what == "limits":
        epochs = 3 - ranks.rank
    if what == "handlers" and ranks.rank == 0:
        loop = loop.on(Events.EPOCH_COMPLETED, State.terminate)
    if what == "shapes":
        model = nn.Linear(4, 1 + ranks.rank)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        loop = Loop(training_step(model, optimizer, nn.MSELoss()), ranks=ranks)
    if what == "metrics":
        loop = loop.on(
            Events.EPOCH_COMPLETED, lambda state: state.with_metric("score", 0.5 + ranks.rank)
        )
    if what == "exchange":

        def ask(state: AnyState) -> AnyState:
            if is_there(state, ranks):
                ranks.gathered("word")
            return state

        loop = loop.on(Events.ITERATION_COMPLETED, ask)
    loop.run(data, max_epochs=epochs)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("limits", "max_epochs is 3 on rank 0, and 2 on rank 1"),
        ("handlers", "handlers of epoch_completed is [('State.terminate', 'None')] on rank 0, and"),
        ("shapes", "model.weight is ((1, 4), 'torch.float32') on rank 0, and ((2, 4),"),
        ("metrics", "metrics['score'] is 0.5 on rank 0, and 1.5 on rank 1"),
        ("exchange", "the ranks ask each other for different things"),
    ],
)
def test_ranks_that_differ_are_told_in_what(what: str, words: str) -> None:
    for end in on_ranks(2, differing, what):
        assert end.error == "RanksDiverged"
        assert words in end.words


def with_uneven_data(ranks: Ranks, data: str) -> Stood:
    model = shared(mlp(), ranks)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loop = Loop(training_step(model, optimizer, nn.MSELoss()), ranks=ranks)
    x, y = rows()
    batches = [(x[:4], y[:4])] * (6 - ranks.rank)
    given: Any = batches
    if data == "unknown":
        given = Unsized(batches)
    elif data == "short":
        given = Short(batches)
    elif data == "even":
        given = even(batches, ranks)
    elif data == "shortest":
        given = even(batches, ranks, uneven=SHORTEST)
    elif data == "unknown, even":
        given = even(Unsized(batches), ranks)
    elif data == "unknown, shortest":
        given = even(Unsized(batches), ranks, uneven=SHORTEST)
    return stood(loop.run(given, max_epochs=3))


class Unsized:
    """Give batches, and do not say how many."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class Short(Unsized):
    """Say that there are six batches."""

    def __len__(self) -> int:
        return 6


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("sized", "epoch_length is 6 on rank 0, and 5 on rank 1"),
        ("unknown", "event is 'get_batch_completed' on rank 0, and 'epoch_completed' on rank 1"),
        ("even", "the data of the ranks has [6, 5] batches"),
        ("unknown, even", "the data of ranks [1] of 2 has ended, and that of the others has not"),
    ],
)
def test_uneven_data_is_refused(data: str, words: str) -> None:
    for end in on_ranks(2, with_uneven_data, data):
        assert end.error == "RanksDiverged"
        assert words in end.words


def test_a_pass_with_fewer_batches_than_data_said_is_refused() -> None:
    first, second = on_ranks(2, with_uneven_data, "short")
    assert (second.error, first.error, first.rank) == ("RanksDiverged", "PeerFailed", 1)
    assert "said that it has 6 batches, and gave 5 in epoch 1" in second.words


@pytest.mark.parametrize("data", ["shortest", "unknown, shortest"])
def test_uneven_data_ends_where_the_shortest_does(data: str) -> None:
    assert values(on_ranks(2, with_uneven_data, data)) == [(3, 15, "completed")] * 2


# Effects of one rank.


def evaluating_on_one(ranks: Ranks) -> Stood:
    loop, data = training(ranks)
    model: Any = loop.external["model"]
    x, y = rows()
    found: list[float] = []
    held_out = Loop(evaluation_step(model)) | mean_loss(nn.MSELoss())

    def evaluate(state: AnyState) -> None:
        found.append(held_out.run(TensorBatches(x, y, batch_size=8)).metrics["loss"])

    final = loop.on(Events.EPOCH_COMPLETED, on_rank(ranks, evaluate)).run(data, max_epochs=3)
    assert len(found) == (0 if ranks.rank else 3)
    return stood(final)


def test_one_rank_may_evaluate_the_model_within() -> None:
    assert together(evaluating_on_one) == [(3, 18, "completed")] * 2


def with_own_group(ranks: Ranks) -> tuple[bool, list[int]]:
    """Have a second group of ranks in a process group that somebody else has opened."""
    own = TorchRanks()
    found = own.gathered(own.rank)
    own.close()
    with pytest.raises(ConnectionError, match="agrees with nobody any more"):
        own.largest((1,))
    return torch.distributed.is_initialized(), found


def test_a_process_group_is_used_and_stays_open() -> None:
    assert together(with_own_group) == [(True, [0, 1])] * 2


def exchanging(ranks: Ranks) -> list[Any]:
    tensor = torch.arange(3) * (ranks.rank + 1)
    return [
        ranks.largest(tuple(range(ranks.rank, 20 + ranks.rank))),
        ranks.largest((-(2**62) + ranks.rank, 2**62 - ranks.rank)),
        [one.tolist() for one in ranks.gathered(tensor)],
        ranks.gathered("x" * 1000 * ranks.rank),
        ranks.first("key", None),
        ranks.gathered(ranks.first("key", 7 if ranks.rank == 0 else None)),
    ]


def test_what_is_exchanged_arrives() -> None:
    found = together(exchanging, 3)
    assert [one[:4] for one in found] == [
        [
            tuple(range(2, 22)),
            (-(2**62) + 2, 2**62),
            [[0, 1, 2], [0, 2, 4], [0, 3, 6]],
            ["", "x" * 1000, "x" * 2000],
        ]
    ] * 3
    assert all(set(one[5]) <= {7, None} for one in found)


def test_without_a_process_group_there_are_no_ranks() -> None:
    with pytest.raises(RuntimeError, match="there is no process group; open one with"):
        TorchRanks()


def test_a_failure_pickles() -> None:
    import pickle

    again = pickle.loads(pickle.dumps(PeerFailed(1, "Boom")))
    assert (again.rank, again.what, str(again)) == (1, "Boom", "rank 1 failed: Boom")
