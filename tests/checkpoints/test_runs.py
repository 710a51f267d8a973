"""What `Checkpoints.run` promises: going on, limits, ends, the best, and refusals."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import nn

from fengine import Event, Events, Loop, State, Status, diff, outputs, stages, tap
from fengine.checkpoints import Best, CheckpointError, Checkpoints, weights
from fengine.metrics import mean
from fengine.testing import assert_resume_exact
from fengine.training import training_step
from tests.checkpoints.trainings import Training

DOUBLING: Loop[Any, float, None] = Loop(outputs(lambda batch: 2.0 * batch))


def counting(calls: list[int]) -> Any:
    return DOUBLING.on(Events.ITERATION_COMPLETED, tap(lambda state: calls.append(state.iteration)))


def loss(value: float) -> Any:
    """A loop that sets the metric at the end of each epoch, by a handler that says so."""
    return DOUBLING.with_metrics("loss", at=Events.EPOCH_COMPLETED).on(
        Events.EPOCH_COMPLETED, lambda state: state.with_metric("loss", value / state.epoch)
    )


def test_a_run_goes_on_from_what_is_kept(tmp_path: Path) -> None:
    calls: list[int] = []
    checkpoints = Checkpoints(tmp_path)

    def failing(state: State[Any, Any]) -> State[Any, Any]:
        if state.epoch == 3:
            raise RuntimeError("the machine is gone")
        return state

    with pytest.raises(RuntimeError, match="the machine is gone"):
        checkpoints.run(counting(calls).on(Events.EPOCH_STARTED, failing), [1, 2], max_epochs=4)
    assert calls == [1, 2, 3, 4]
    final = checkpoints.run(counting(calls), [1, 2], max_epochs=4)
    assert calls == [*range(1, 9)]
    assert final == DOUBLING.run([1, 2], max_epochs=4)


def test_a_complete_run_comes_back_at_once(tmp_path: Path) -> None:
    calls: list[int] = []
    checkpoints = Checkpoints(tmp_path)
    first = checkpoints.run(counting(calls), [1, 2], max_epochs=2)
    again = checkpoints.run(counting(calls), [1, 2], max_epochs=2)
    assert calls == [1, 2, 3, 4]
    assert again.status is Status.COMPLETED
    assert (again.iteration, again.metrics) == (first.iteration, first.metrics)
    assert checkpoints.run(counting(calls), [1, 2]).iteration == 4
    assert checkpoints.run(counting(calls), [1, 2], max_epochs=1).iteration == 4
    assert calls == [1, 2, 3, 4]


@pytest.mark.parametrize("limits", [{"max_epochs": 5}, {"max_iters": 10}])
def test_limits_that_are_given_replace_the_kept_ones(tmp_path: Path, limits: Any) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.run(DOUBLING, [1, 2], max_epochs=2)
    assert checkpoints.run(DOUBLING, [1, 2], **limits).iteration == 10


def test_a_run_that_was_asked_to_end_stays_ended_until_it_is_asked_again(tmp_path: Path) -> None:
    ending = DOUBLING.on(Events.EPOCH_COMPLETED(once=2), State.terminate)
    checkpoints = Checkpoints(tmp_path)
    final = checkpoints.run(ending, [1, 2], max_epochs=4)
    assert (final.status, final.epoch) == (Status.TERMINATED, 2)
    with pytest.warns(UserWarning, match="asked to end at epoch 2, iteration 4.*again=True"):
        assert checkpoints.run(ending, [1, 2], max_epochs=4).epoch == 2
    final = checkpoints.run(ending, [1, 2], max_epochs=4, again=True)
    assert (final.status, final.epoch, final.iteration) == (Status.COMPLETED, 4, 8)


def test_a_pause_is_kept_and_gone_on_from(tmp_path: Path) -> None:
    pausing = DOUBLING.on(Events.ITERATION_COMPLETED(once=3), State.interrupt)
    checkpoints = Checkpoints(tmp_path)
    paused = checkpoints.run(pausing, [1, 2], max_epochs=3)
    assert (paused.status, paused.iteration) == (Status.INTERRUPTED, 3)
    assert checkpoints.run(pausing, [1, 2], max_epochs=3).iteration == 6


@attrs.frozen
class Record:
    names: tuple[str, ...] = ()


def test_the_record_is_read_by_its_type(tmp_path: Path) -> None:
    loop: Any = Loop(outputs(float))
    loop = loop.on(
        Events.EPOCH_COMPLETED,
        lambda state: state.evolve(user=Record((*state.user.names, str(state.epoch)))),
    )
    checkpoints = Checkpoints(tmp_path)
    checkpoints.run(loop, [1], user=Record(), max_epochs=2)
    final = checkpoints.run(loop, [1], user=Record(), max_epochs=4)
    assert final.user == Record(("1", "2", "3", "4"))
    with pytest.raises(CheckpointError, match=r"has the record \{'names': .*; give user= one of"):
        checkpoints.run(loop, [1], max_epochs=5)


def test_the_save_comes_after_handlers_that_are_added_later(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    loop: Any = checkpoints.saving(DOUBLING)
    loop = loop.on(Events.EPOCH_COMPLETED, lambda state: state.with_metric("late", state.epoch))
    loop.run([1, 2], max_epochs=2)
    assert [kept.metrics["late"] for kept in checkpoints.kept()] == [1, 2]


def test_every_says_when_and_the_end_is_saved_too(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=None, every=Events.ITERATION_COMPLETED(every=3))
    checkpoints.run(DOUBLING, [1, 2, 3, 4], max_epochs=2)
    assert [kept.iteration for kept in checkpoints.kept()] == [3, 6, 8]


def test_going_on_from_a_save_does_not_save_it_again(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=None)
    checkpoints.run(DOUBLING, [1], max_epochs=2)
    before = [kept.path.name for kept in checkpoints.kept()]
    checkpoints.run(DOUBLING, [1], max_epochs=3)
    assert [kept.path.name for kept in checkpoints.kept()][: len(before)] == before


def test_the_best_stay(tmp_path: Path) -> None:
    values = [3.0, float("nan"), 1.0, float("-inf"), 2.0, 2.0]
    loop: Any = DOUBLING.with_metrics("loss", at=Events.EPOCH_COMPLETED).on(
        Events.EPOCH_COMPLETED,
        lambda state: state.with_metric("loss", values[state.epoch - 1]),
    )
    checkpoints = Checkpoints(tmp_path, keep=1, best=Best("loss", mode="min", keep=2))
    checkpoints.run(loop, [1], max_epochs=6)
    assert [kept.epoch for kept in checkpoints.kept()] == [3, 5, 6]
    best = checkpoints.best_kept()
    assert best is not None
    assert (best.epoch, best.metrics["loss"]) == (3, 1.0)


def test_a_save_at_another_event_is_never_the_best(tmp_path: Path) -> None:
    checkpoints = Checkpoints(
        tmp_path,
        keep=None,
        best=Best("loss", mode="min"),
        every=Events.ITERATION_COMPLETED,
    )
    checkpoints.run(loss(1.0), [1, 2], max_epochs=3)
    best = checkpoints.best_kept()
    assert best is not None
    assert (best.event, best.epoch) == ("epoch_completed", 3)


def test_a_run_that_never_sets_the_metric_says_so(tmp_path: Path) -> None:
    loop: Any = DOUBLING.with_metrics("loss", at=Events.EPOCH_COMPLETED)
    with pytest.warns(UserWarning, match="'loss' was never set to a finite number"):
        Checkpoints(tmp_path, best=Best("loss", mode="min")).run(loop, [1])


def test_a_metric_that_nobody_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no feature before it sets.*Did you mean 'loss'"):
        Checkpoints(tmp_path, best=Best("lost", mode="min")).run(DOUBLING | mean("loss"), [1])


OWN = Event("own")


@pytest.mark.parametrize(
    ("every", "said"),
    [
        (Events.ITERATION_STARTED, "before the step is done with its batch"),
        (Events.EPOCH_COMPLETED | Events.GET_BATCH_COMPLETED, "GET_BATCH_COMPLETED fires before"),
        (Events.EXITED, "as a run is left"),
        (Events.INTERRUPT, "as a run is left"),
        (OWN, "before the step is done with its batch"),
    ],
)
def test_events_that_cannot_be_gone_on_from_are_refused(every: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Checkpoints("folder", every=every)


@pytest.mark.parametrize("keep", [0, -1, True, 2.5, "2"])
def test_numbers_that_keep_nothing_are_refused(keep: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="keep="):
        Checkpoints("folder", keep=keep)
    with pytest.raises((TypeError, ValueError), match="keep="):
        Best("loss", mode="min", keep=keep)


@pytest.mark.parametrize(
    "wrong",
    [
        {"best": "loss"},
        {"every": 3},
        {"on_error": "ignore"},
        {"preemption": 3},
        {"folder": 3},
        {"folder": ""},
    ],
)
def test_other_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        Checkpoints(**{"folder": "folder", **wrong})


def test_a_new_run_is_not_saved_into_the_folder_of_another(tmp_path: Path) -> None:
    Checkpoints(tmp_path).run(DOUBLING, [1, 2])
    with pytest.raises(CheckpointError, match="checkpoints of another run, the newest step-000"):
        Checkpoints(tmp_path).saving(DOUBLING).run([1, 2, 3])


def test_a_broken_newest_one_falls_back_with_a_warning(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.run(DOUBLING, [1], max_epochs=3)
    older, newest = checkpoints.kept()
    (tmp_path / newest.path.name / "tensors.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match=f"{older.path.name} is the newest intact.*0 bytes"):
        final = checkpoints.run(DOUBLING, [1], max_epochs=4)
    assert final.epoch == 4
    for kept in checkpoints.kept():
        (tmp_path / kept.path.name / "tensors.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds broken checkpoints only"):
        checkpoints.run(DOUBLING, [1], max_epochs=4)


def test_what_does_not_fit_is_listed_and_nothing_changes(tmp_path: Path) -> None:
    def make(width: int, kind: Any) -> tuple[nn.Module, Any]:
        model = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))
        step = training_step(model, kind(model.parameters(), lr=0.1), nn.functional.mse_loss)
        return model, Loop(step)

    pairs = [(torch.ones(4, 2), torch.ones(4, 1))]
    _, first = make(3, torch.optim.Adam)
    Checkpoints(tmp_path).run(first, pairs)
    model, second = make(2, torch.optim.AdamW)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="does not fit") as raised:
        Checkpoints(tmp_path).run(second, pairs, max_epochs=2)
    said = str(raised.value)
    assert "external['model'].0.weight was float32 of shape (3, 2), and is float32 of" in said
    assert "external['optimizer'] was a Adam, and is a AdamW here" in said
    assert not diff(before, model.state_dict())


def test_data_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    training = Training()
    checkpoints = Checkpoints(tmp_path, every=Events.ITERATION_COMPLETED(every=3))
    paused = training.loop.on(Events.ITERATION_COMPLETED(once=3), State.interrupt)
    checkpoints.run(paused, training.data, max_epochs=2)
    other = Training()
    before = {name: tensor.clone() for name, tensor in other.model.state_dict().items()}
    shuffled = torch.utils.data.DataLoader(training.data.dataset, batch_size=6, shuffle=True)
    with pytest.raises(ValueError, match="replay"):
        checkpoints.run(other.loop, shuffled, max_epochs=2)
    assert not diff(before, other.model.state_dict())


def test_a_save_that_fails_warns_where_that_is_asked_for(tmp_path: Path) -> None:
    class Odd:
        def state_dict(self) -> dict[str, object]:
            return {"bad": {"f": len}}

        def load_state_dict(self, state_dict: object) -> None:
            pass

    loop: Any = DOUBLING.with_external(odd=Odd())
    said = "external.odd.bad.f is a builtins.builtin_function_or_method"
    with pytest.raises(CheckpointError, match=said):
        Checkpoints(tmp_path / "a").run(loop, [1, 2])
    with pytest.warns(UserWarning, match=f"not saved: .*{said}"):
        final = Checkpoints(tmp_path / "b", on_error="warn").run(loop, [1, 2])
    assert final.status is Status.COMPLETED
    for background in (False, True):
        with pytest.warns(UserWarning, match="not saved"):
            Checkpoints(tmp_path / "c", on_error="warn", background=background).run(loop, [1])


def test_the_exception_of_the_run_wins_over_that_of_a_save(tmp_path: Path) -> None:
    folder = tmp_path / "kept"

    def spoil(state: State[Any, Any]) -> State[Any, Any]:
        if state.epoch == 2:
            folder.rename(tmp_path / "gone")
            folder.write_text("in the way")
            raise ZeroDivisionError
        return state

    checkpoints = Checkpoints(folder, background=True)
    with pytest.warns(UserWarning, match="not saved"), pytest.raises(ZeroDivisionError):
        checkpoints.run(DOUBLING.on(Events.EPOCH_STARTED, spoil), [1], max_epochs=3)


def test_a_checkpoint_is_read_as_a_snapshot(tmp_path: Path) -> None:
    training = Training()
    checkpoints = Checkpoints(tmp_path, keep=None)
    final = checkpoints.run(training.loop, training.data, max_epochs=3)
    other = Training()
    first = checkpoints.kept()[0]
    snapshot = checkpoints.load(other.loop, first)
    assert (snapshot.state.epoch, snapshot.state.event) == (1, Events.EPOCH_COMPLETED)
    assert other.digest(other.loop.resume(snapshot, other.data)) == training.digest(final)


def test_weights_are_read_without_a_loop(tmp_path: Path) -> None:
    training = Training()
    Checkpoints(tmp_path).run(training.loop, training.data)
    found = weights(tmp_path, "model")
    assert not diff(dict(training.model.state_dict()), dict(found))
    newest = Checkpoints(tmp_path).kept()[-1].path
    averaged = training.loop.external["ema"].state_dict()
    assert not diff(dict(averaged), weights(str(newest), "ema"))
    with pytest.raises(CheckpointError, match=r"nothing named 'modle'; .*model"):
        weights(tmp_path, "modle")
    with pytest.raises(CheckpointError, match="is no folder"):
        weights(tmp_path / "none", "model")


@pytest.mark.parametrize("windowed", [False, True])
def test_each_event_can_be_gone_on_from(windowed: bool) -> None:
    def build() -> Any:
        training = Training(windowed=windowed)
        return training.loop, training.data, {"max_epochs": 2}

    assert_resume_exact(build)


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    first: Any = Checkpoints(tmp_path).saving(DOUBLING).iterate([1, 2])
    next(first)
    with pytest.raises(CheckpointError, match=r"is written to by process \d+ on "):
        Checkpoints(tmp_path).run(DOUBLING, [1, 2])
    del first
    gc.collect()
    assert Checkpoints(tmp_path).run(DOUBLING, [1, 2]).iteration == 2


def test_what_stages_fire_is_no_obstacle(tmp_path: Path) -> None:
    loop: Any = Loop(stages(lambda state: 1).emit(OWN).then(lambda value: value))
    final = Checkpoints(tmp_path).run(loop, [1, 2], max_epochs=2)
    assert final.iteration == 4


def test_nothing_warns_in_a_plain_run(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Checkpoints(tmp_path, background=True).run(DOUBLING, [1], max_epochs=5)
        Checkpoints(tmp_path, background=True).run(DOUBLING, [1], max_epochs=9)
