"""The best weights are kept where a metric is best, and put back when the run is complete."""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from typing_extensions import override

from fengine import END_RUN, Events, Loop, NameTaken, State, Status, outputs
from fengine.features import (
    BestStates,
    BestValue,
    early_stopping,
    ema,
    evaluation,
    keep_best,
)
from fengine.metrics import mean, mean_loss
from fengine.testing import assert_resume_exact
from fengine.training import TensorBatches, evaluation_step, training_step
from tests.features.digests import digest
from tests.features.peers import fit_with_lightning, ignite_trainer

Pair = tuple[Tensor, Tensor]


class Thing:
    """Be a thing with a state: the last number that it was given."""

    def __init__(self) -> None:
        self.number = 0.0

    def state_dict(self) -> dict[str, float]:
        return {"number": self.number}

    def load_state_dict(self, state_dict: dict[str, float], /) -> None:
        self.number = state_dict["number"]


def following(thing: Thing, **best: Any) -> tuple[Loop[float, float, None], Any]:
    """Make a loop that gives a thing each number, and keeps it where that is best."""

    def step(batch: float) -> float:
        thing.number = batch
        return batch

    feature = keep_best("score", thing=thing, **best)
    loop = Loop(outputs(step)) | mean("score", over=Events.ITERATION_COMPLETED) | feature
    return loop, feature


def numbered(batch: float) -> float:
    return batch


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


@given(st.lists(st.floats(), min_size=1), st.sampled_from(["max", "min"]))
def test_what_is_put_back_is_what_a_plain_loop_finds(numbers: list[float], mode: Any) -> None:
    best, place = math.nan, 0
    for number, value in enumerate(numbers, start=1):
        better = value > best if mode == "max" else value < best
        if better or (math.isnan(best) and not math.isnan(value)):
            best, place = value, number
    thing = Thing()
    loop, feature = following(thing, mode=mode)
    final = loop.run(numbers)
    found = final.part(feature.part)
    assert same(found.value, best)
    assert (found.epoch, found.iteration) == (min(place, 1), place)
    assert same(thing.number, best if place else numbers[-1])


def make(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)


def batches(seed: int = 1, count: int = 4) -> list[Pair]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(6, 4, generator=generator), torch.randn(6, 1, generator=generator))
        for _ in range(count)
    ]


HELD_OUT = batches(2)
EPOCHS = 6


def training(model: nn.Module, optimizer: torch.optim.Optimizer) -> Loop[Pair, Tensor, None]:
    judging = Loop(evaluation_step(model)) | mean_loss(mse_loss)
    return Loop(training_step(model, optimizer, mse_loss)) | evaluation(judging, HELD_OUT)


def train_by_hand() -> tuple[list[float], list[str]]:
    """Train as a user without any engine would; give each epoch's loss, and its weights."""
    model, optimizer = make()
    torch.manual_seed(7)
    losses, weights = [], []
    for _ in range(EPOCHS):
        model.train()
        for x, y in batches():
            optimizer.zero_grad()
            mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        model.eval()
        with torch.no_grad():
            found = [float(mse_loss(model(x), y)) for x, y in HELD_OUT]
        losses.append(sum(found) / len(found))
        weights.append(digest(model))
    return losses, weights


@pytest.mark.parametrize("epochs", range(1, EPOCHS + 1))
@pytest.mark.parametrize(("mode", "choose"), [("min", min), ("max", max)])
def test_the_weights_are_bitwise_those_of_the_best_epoch(
    mode: Any, choose: Callable[[list[float]], float], epochs: int
) -> None:
    losses, weights = train_by_hand()
    losses, weights = losses[:epochs], weights[:epochs]
    place = losses.index(choose(losses))
    model, optimizer = make()
    best = keep_best("val_loss", mode=mode, model=model)
    loop = training(model, optimizer) | best
    torch.manual_seed(7)
    final = loop.run(batches(), max_epochs=epochs)
    assert digest(model) == weights[place]
    found = final.part(best.part)
    assert (found.epoch, found.iteration) == (place + 1, 4 * (place + 1))
    assert found.value == pytest.approx(losses[place], rel=1e-5)
    assert final.metrics["val_loss"] == pytest.approx(losses[-1], rel=1e-5)


# Beside other libraries.


def test_they_are_the_weights_that_pytorch_ignite_saves(tmp_path: Path) -> None:
    from ignite.engine import Engine
    from ignite.engine import Events as IgniteEvents
    from ignite.handlers import Checkpoint, DiskSaver

    model, optimizer = make()
    torch.manual_seed(7)
    loop = training(model, optimizer) | keep_best("val_loss", mode="min", model=model)
    loop.run(batches(), max_epochs=EPOCHS)

    theirs, their_optimizer = make()
    engine = ignite_trainer(theirs, their_optimizer)

    def score(engine: Engine) -> float:
        theirs.eval()
        with torch.no_grad():
            return -sum(float(mse_loss(theirs(x), y)) for x, y in HELD_OUT)

    saver = DiskSaver(str(tmp_path), create_dir=False)
    keeping = Checkpoint({"model": theirs}, saver, n_saved=1, score_function=score)
    engine.add_event_handler(IgniteEvents.EPOCH_COMPLETED, keeping)
    torch.manual_seed(7)
    engine.run(batches(), max_epochs=EPOCHS)
    theirs.load_state_dict(torch.load(tmp_path / str(keeping.last_checkpoint)))
    assert digest(theirs) == digest(model)


def test_they_are_the_weights_that_lightning_saves(tmp_path: Path) -> None:
    callbacks: Any = pytest.importorskip("lightning.pytorch.callbacks")
    model, optimizer = make()
    torch.manual_seed(7)
    loop = training(model, optimizer) | keep_best("val_loss", mode="min", model=model)
    loop.run(batches(), max_epochs=EPOCHS)

    theirs, their_optimizer = make()
    keeping: Any = callbacks.ModelCheckpoint(tmp_path, monitor="val_loss", mode="min", save_top_k=1)
    torch.manual_seed(7)
    fit_with_lightning(
        theirs, their_optimizer, batches(), keeping, epochs=EPOCHS, held_out=HELD_OUT
    )
    saved = torch.load(keeping.best_model_path, weights_only=False)["state_dict"]
    theirs.load_state_dict({name.removeprefix("model."): one for name, one in saved.items()})
    assert digest(theirs) == digest(model)


# Where they are put back, and where not.


def test_early_stopping_leaves_the_best_weights() -> None:
    thing = Thing()
    loop, feature = following(thing, mode="min")
    stop = early_stopping("score", mode="min", patience=2)
    final = (loop | stop).run([3.0, 1.0, 2.0, 2.0, 0.0])
    assert (final.status, final.iteration) == (Status.TERMINATED, 4)
    assert thing.number == 1.0
    assert final.part(feature.part) == BestValue(1.0, 1, 2)


def test_handlers_of_the_end_see_the_last_weights_before_it_and_the_best_after_it() -> None:
    thing, seen = Thing(), list[float]()

    def note(state: State[float, float]) -> State[float, float]:
        seen.append(thing.number)
        return state

    def step(batch: float) -> float:
        thing.number = batch
        return batch

    loop = Loop(outputs(step)) | mean("score", over=Events.ITERATION_COMPLETED)
    loop = loop.on(Events.COMPLETED, note) | keep_best("score", mode="min", thing=thing)
    loop.on(Events.COMPLETED, note).run([3.0, 1.0, 2.0])
    assert seen == [2.0, 1.0]


def failing(state: State[float, float]) -> State[float, float]:
    raise ZeroDivisionError


def ending(state: State[float, float], error: object) -> State[float, float]:
    return state.recover(END_RUN)


def quitting(state: State[float, float]) -> State[float, float]:
    return state.terminate(skip_completed=True)


def test_a_run_that_does_not_complete_keeps_the_newest_weights() -> None:
    last = Events.ITERATION_COMPLETED(once=3)
    numbers = [3.0, 1.0, 2.0, 5.0]
    for handler, status in (
        (State.interrupt, Status.INTERRUPTED),
        (quitting, Status.TERMINATED),
    ):
        thing = Thing()
        loop, _ = following(thing, mode="min")
        assert loop.on(last, handler).run(numbers).status is status
        assert thing.number == 2.0
    thing = Thing()
    loop, _ = following(thing, mode="min")
    with pytest.raises(ZeroDivisionError):
        loop.on(last, failing).run(numbers)
    assert thing.number == 2.0
    ended = loop.on(last, failing).on(Events.EXCEPTION_RAISED, ending).run(numbers)
    assert ended.status is Status.TERMINATED
    assert thing.number == 2.0


def test_a_run_that_goes_on_after_a_pause_puts_the_best_back() -> None:
    thing = Thing()
    loop, _ = following(thing, mode="min")
    paused = loop.on(Events.ITERATION_COMPLETED(once=3), State.interrupt)
    numbers = [3.0, 1.0, 2.0, 5.0]
    half = paused.run(numbers)
    paused.resume(half, numbers)
    assert thing.number == 1.0


def test_a_new_run_does_not_put_back_what_an_earlier_one_has_kept() -> None:
    thing = Thing()
    loop, feature = following(thing, mode="min")
    loop.run([3.0, 1.0, 2.0])
    final = loop.run([math.nan, math.nan])
    assert math.isnan(thing.number)
    assert final.part(feature.part) is feature.part.initial
    loop.run([9.0, 10.0])
    assert thing.number == 9.0


def test_a_metric_that_is_set_at_the_end_is_kept_there() -> None:
    thing = Thing()

    def score(state: State[float, float]) -> State[float, float]:
        return state.with_metric("score", state.output)

    def step(batch: float) -> float:
        thing.number = batch
        return batch

    best = keep_best("score", mode="min", at=Events.COMPLETED, thing=thing)
    final = (Loop(outputs(step)).on(Events.COMPLETED, score) | best).run([3.0, 1.0, 2.0])
    assert final.part(best.part) == BestValue(2.0, 1, 3)
    assert thing.number == 2.0


def test_it_reads_at_payload_events_and_at_filtered_ones() -> None:
    thing = Thing()
    at = Events.ITERATION_COMPLETED(every=2)
    loop, feature = following(thing, mode="min", at=at)
    assert loop.run([0.0, 3.0, 1.0, 4.0]).part(feature.part) == BestValue(3.0, 1, 2)

    def raised(batch: float) -> float:
        return 1 / batch

    def pass_on(state: State[float, float], error: object) -> State[float, float]:
        return state.with_metric("score", 0.5)

    told = keep_best("score", mode="min", at=Events.EXITED, thing=thing)
    loop = Loop(outputs(raised)).on(Events.EXITED, pass_on)
    assert (loop | told).run([1.0]).part(told.part).value == 0.5


# Several things, and what snapshots hold.


def test_several_things_are_kept_together() -> None:
    model, optimizer = make()
    averaged = ema(model, 0.5)
    best = keep_best(
        "val_loss", mode="min", model=model, optimizer=optimizer, averaged=averaged.averaged
    )
    seen: dict[int, str] = {}

    def note(state: State[Pair, Tensor]) -> State[Pair, Tensor]:
        seen[state.epoch] = digest(model, optimizer, averaged.averaged)
        return state

    loop = training(model, optimizer).on(Events.EPOCH_COMPLETED, note) | averaged | best
    torch.manual_seed(7)
    final = loop.run(batches(), max_epochs=EPOCHS)
    place = final.part(best.part).epoch
    assert place < EPOCHS
    assert digest(model, optimizer, averaged.averaged) == seen[place]


def test_what_is_kept_is_a_copy() -> None:
    model, optimizer = make()
    best = keep_best("val_loss", mode="min", model=model)
    (training(model, optimizer) | best).run(batches(), max_epochs=2)
    before = digest(best.kept)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    assert digest(best.kept) == before


def test_it_goes_on_exactly_from_every_moment() -> None:
    x, y = (torch.cat(one) for one in zip(*batches(), strict=True))

    def remake() -> Any:
        model, optimizer = make()
        best = keep_best("val_loss", mode="min", model=model)
        loop = training(model, optimizer) | best
        return loop, TensorBatches(x, y, batch_size=6, seed=0), {"max_epochs": 3}

    assert_resume_exact(remake)


@pytest.mark.parametrize("after", range(1, EPOCHS + 1))
def test_a_run_in_a_new_process_puts_the_right_weights_back(after: int) -> None:
    model, optimizer = make()
    best = keep_best("val_loss", mode="min", model=model)
    loop = training(model, optimizer) | best
    torch.manual_seed(7)
    final = loop.run(batches(), max_epochs=EPOCHS)
    wanted = digest(model)
    assert final.part(best.part).epoch < EPOCHS

    model, optimizer = make()
    loop = training(model, optimizer) | keep_best("val_loss", mode="min", model=model)
    pausing = loop.on(Events.EPOCH_COMPLETED(once=after), State.interrupt)
    file = io.BytesIO()
    torch.manual_seed(7)
    torch.save(loop.snapshot(pausing.run(batches(), max_epochs=EPOCHS)).to_dict(), file)

    model, optimizer = make(seed=9)
    best = keep_best("val_loss", mode="min", model=model)
    loop = training(model, optimizer) | best
    again = loop.resume(loop.read(torch.load(io.BytesIO(file.getvalue()))), batches())
    assert digest(model) == wanted
    assert again.part(best.part) == final.part(best.part)


def test_the_part_goes_through_json() -> None:
    thing = Thing()
    loop, feature = following(thing, mode="min")
    half = loop.on(Events.ITERATION_COMPLETED(once=3), State.interrupt).run([3.0, 1.0, 2.0, 5.0])
    text = json.dumps(loop.snapshot(half).to_dict(batch=float, output=float))
    thing = Thing()
    loop, feature = following(thing, mode="min")
    read = loop.read(json.loads(text), batch=float, output=float)
    assert read.state.part(feature.part) == BestValue(1.0, 1, 2)
    loop.resume(read, [3.0, 1.0, 2.0, 5.0])
    assert thing.number == 1.0


def test_things_that_the_loop_does_not_know_are_in_its_snapshots() -> None:
    thing = Thing()
    loop, feature = following(thing, mode="min")
    assert dict(loop.external) == {"best": feature.kept, "thing": thing}
    model, optimizer = make()
    averaged = ema(model, 0.5)
    known = training(model, optimizer) | averaged
    best = keep_best("val_loss", mode="min", net=model, ema=averaged.model)
    assert set((known | best).external) == {*known.external, "best"}
    with pytest.raises(NameTaken, match="two have the thing outside the state 'model'"):
        known | keep_best("val_loss", mode="min", model=thing)


def test_copies_of_other_things_are_refused_and_nothing_is_restored() -> None:
    thing = Thing()
    loop, _ = following(thing, mode="min")
    kept = loop.snapshot(loop.run([3.0, 1.0]))
    other: Any = Loop(outputs(numbered)).with_external(thing=thing)
    best = keep_best("score", mode="min", at=Events.COMPLETED, thing=thing, more=thing)
    thing.number = 7.0
    with pytest.raises(ValueError, match=r"those of \['thing'\], and those of \['more', 'thing'\]"):
        (other | best).restore(kept)
    assert thing.number == 7.0


class Refusing(Thing):
    @override
    def load_state_dict(self, state_dict: dict[str, float], /) -> None:
        raise OSError("no")


def test_where_one_thing_takes_nothing_up_none_does() -> None:
    thing, refusing = Thing(), Refusing()

    def step(batch: float) -> float:
        thing.number = batch
        return batch

    best = keep_best("score", mode="min", a=thing, b=refusing)
    loop = Loop(outputs(step)) | mean("score", over=Events.ITERATION_COMPLETED) | best
    with pytest.raises(OSError, match="no") as caught:
        loop.run([1.0, 2.0])
    assert thing.number == 2.0
    assert "in restoring external['b']" in caught.value.__notes__


# Names, equality and refusals.


def test_it_prints_compares_and_pickles() -> None:
    model, _ = make()
    at = Events.EPOCH_COMPLETED
    best = keep_best("a", mode="max", model=model)
    assert repr(best) == "keep_best('a', mode='max', model=Sequential)"
    assert (
        repr(keep_best("a", mode="max", at=at, name="b", z=model, c=model))
        == "keep_best('a', mode='max', at=Events.EPOCH_COMPLETED, name='b', c=Sequential, "
        "z=Sequential)"
    )
    assert best == copy.copy(best)
    assert hash(best) == hash(copy.copy(best))
    assert best != keep_best("a", mode="max", model=model)
    thing = Thing()
    feature = keep_best("score", mode="min", thing=thing, at=Events.ITERATION_COMPLETED)
    feature.kept.states = {"thing": {"number": 3.0}}
    again = pickle.loads(pickle.dumps(feature))
    assert again.kept.state_dict() == {"thing": {"number": 3.0}}
    assert again.things["thing"].number == 0.0
    loop = Loop(outputs(numbered)) | feature
    assert loop == Loop(outputs(numbered)) | copy.copy(feature)
    assert "keep_best('score', mode='min', at=Events" in str(loop)


def test_two_have_two_names() -> None:
    thing = Thing()
    loop, _ = following(thing, mode="min")
    with pytest.raises(NameTaken, match="two have the part 'best'"):
        loop | keep_best("score", mode="max", thing=thing)
    assert {"best", "worst"} <= set(
        (loop | keep_best("score", mode="max", name="worst", thing=thing)).external
    )


def test_wrong_arguments_are_refused() -> None:
    thing = Thing()
    with pytest.raises(ValueError, match=r"nothing to keep; name it: keep_best\('a', mode='min', "):
        keep_best("a", mode="min")
    with pytest.raises(ValueError, match=r"mode='best' is not \"max\""):
        keep_best("a", mode="best", thing=thing)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="keep_best takes the name of a metric, not 3"):
        keep_best(3, mode="min", thing=thing)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="thing=3 has no state_dict"):
        keep_best("a", mode="min", thing=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model=the class Linear has no state_dict"):
        keep_best("a", mode="min", model=nn.Linear)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="positional"):
        keep_best("a", thing)  # type: ignore[arg-type, call-arg]
    with pytest.raises(ValueError, match="no feature before it sets; set are none"):
        Loop(outputs(abs)) | keep_best("a", mode="min", thing=thing)
    told = keep_best("a", mode="min", at=Events.EPOCH_COMPLETED, thing=thing)
    with pytest.raises(LookupError, match=r"keep_best\('a'.*reads the metric 'a' at Events.EPOCH"):
        (Loop(outputs(numbered)) | told).run([1.0])


def test_best_states_take_up_what_they_gave() -> None:
    kept, other = BestStates(("a",)), BestStates(("a",))
    other.load_state_dict(kept.state_dict())
    assert other.state_dict() == {}
    kept.load_state_dict({"a": 1})
    other.load_state_dict(kept.state_dict())
    assert other.state_dict() == {"a": 1}
