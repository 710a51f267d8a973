"""Features as they are meant to be used: all of it checks, and the types are as said."""

import sys
import time
from collections.abc import Iterable, Mapping
from typing import TypedDict, TypeVar, assert_type

import attrs
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from fengine import Event, Events, Loop, Part, Snapshot, State, Status, When, outputs, stages, tap
from fengine.engine import Engine
from fengine.engine import Events as EngineEvents
from fengine.features import (
    BestValue,
    LearningRates,
    Patience,
    Profile,
    Throughput,
    clip_grad_norm,
    clip_grad_value,
    early_stopping,
    ema,
    evaluation,
    find_learning_rate,
    frozen,
    keep_best,
    learning_rate,
    log_to,
    lr_schedule,
    plots,
    profiled,
    progress,
    random_state,
    seeded,
    stop_on_nan,
    throughput,
    time_limit,
)
from fengine.metrics import (
    Count,
    Measured,
    Ratio,
    States,
    accuracy,
    mean,
    mean_loss,
    measure,
    torch_metric,
)
from fengine.training import (
    Backprop,
    ForwardPass,
    Matched,
    Prediction,
    RandomState,
    Seeded,
    Shuffled,
    TensorBatches,
    Window,
    count_samples,
    evaluation_step,
    load_matching,
    predict,
    to_device,
    training_step,
    windows,
)
from fengine.writers import (
    Place,
    Scalar,
    Writer,
    console,
    csv_file,
    jsonl,
    mlflow,
    tensorboard,
    wandb,
)

Pair = tuple[Tensor, Tensor]
B = TypeVar("B")
Out = TypeVar("Out")
U = TypeVar("U")

model = nn.Linear(2, 3)
optimizer = torch.optim.AdamW(model.parameters())
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
data = TensorBatches(torch.ones(4, 2), torch.ones(4, dtype=torch.int64), batch_size=2)

# The whole training, in a line a feature.

loop = (
    Loop(training_step(model, optimizer, cross_entropy, autocast=torch.bfloat16))
    | clip_grad_norm(model, 1.0)
    | clip_grad_value(model, 1.0)
    | lr_schedule(scheduler)
    | learning_rate(optimizer)
    | random_state()
    | mean("train_loss")
    | evaluation(Loop(evaluation_step(model)) | accuracy() | mean_loss(cross_entropy), data)
    | early_stopping("val_accuracy", mode="max", patience=5)
    | lr_schedule(plateau, metric="val_loss", name="plateau")
    | progress("val_accuracy")
)
assert_type(loop, Loop[Pair, Tensor, None])
final = loop.run(data, max_epochs=20)
assert_type(final, State[Pair, Tensor, None])
assert_type(final.output, Tensor)

# A feature may be kept in a variable, and its part is typed.

stop = early_stopping("train_loss", mode="min", patience=2, name="stop")
loss = mean("loss")
assert_type((loop | loss | stop).run(data).part(stop.part), Patience)
assert_type(final.part(loss.part), Measured[Ratio])
right = accuracy("right", task="binary", threshold=0.5, over=Events.EPOCH_COMPLETED(every=2))
assert_type(final.part(right.part).total, Count)


# Before a training, and parts that are frozen.

tried = loop.try_out(data, 3)
assert_type(tried, State[Pair, Tensor, None])
sweep = find_learning_rate(loop, data, smallest=1e-5, largest=10, iterations=50, loss=Tensor.item)
assert_type(sweep, LearningRates)
assert_type(sweep.suggestion, float | None)
assert_type(sweep.losses, tuple[float, ...])
sweep.save("rates.png")
gradual = (
    loop
    | frozen(model, until=2, eval_mode=True, name="head")
    | frozen(model.parameters(), name="all")
    | frozen([model.weight], until=1)
)
assert_type(gradual, Loop[Pair, Tensor, None])

# A user's record, a handler of a training, and an own part.


@attrs.frozen
class Notes:
    best: float = 0.0


notes = Part("notes", Notes())
assert_type(notes, Part[Notes])


def keep(state: State[Pair, Tensor, Notes]) -> State[Pair, Tensor, Notes]:
    state = state.with_part(notes, Notes(1.0))
    assert_type(state.part(notes), Notes)
    return state.evolve(user=Notes(2.0))


def clip(state: State[Pair, Tensor, Notes], forward: ForwardPass) -> State[Pair, Tensor, Notes]:
    nn.utils.clip_grad_norm_(model.parameters(), float(forward.loss))
    return state


mine = (
    Loop[Pair, Tensor, Notes](training_step(model, optimizer, cross_entropy))
    .on(Events.EPOCH_COMPLETED, keep)
    .on(Backprop.COMPLETED, clip)
    .with_part(notes)
)
assert_type((mine | mean("loss")).run(data, user=Notes()).user, Notes)
annotated: Loop[Pair, Tensor, Notes] = Loop(training_step(model, optimizer, cross_entropy))
step = training_step(model, optimizer, cross_entropy)
from_variable = Loop[Pair, Tensor, Notes](step) | mean("loss") | progress("loss")
snapshot = mine.read({}, user=Notes)
assert_type(snapshot, Snapshot[Pair, Tensor, Notes])
mine.restore(snapshot)
assert_type(mine.resume(snapshot, data, restored=True), State[Pair, Tensor, Notes])
assert_type(State.from_dict({}, user=Notes, parts=mine.parts).user, Notes)

# Windows of batches, batches that are no pairs, and a loss of the user's own.

windowed = Loop[Window[Pair], Tensor](training_step(model, optimizer, cross_entropy))
assert_type((windowed | mean("loss")).run(windows(data, 2)).batch.batches, tuple[Pair, ...])


def own_loss(model: nn.Linear, batch: Mapping[str, Tensor]) -> Tensor:
    loss: Tensor = model(batch["x"]).sum()
    return loss


own = Loop(training_step(model, optimizer, loss=own_loss, weight=count_samples))
assert_type(own, Loop[Mapping[str, Tensor], Tensor, None])
assert_type((own | mean("loss")).run([{"x": torch.ones(1, 2)}]).output, Tensor)

# Metrics of one's own: of any output, with a value and a weight.


@attrs.frozen
class Largest:
    empty: float = float("-inf")

    def of(self, output: int) -> float:
        return float(output)

    def merge(self, total: float, other: float) -> float:
        return max(total, other)

    def compute(self, total: float) -> float:
        return total


def halved(number: int) -> float:
    return number / 2


def length(batch: list[int]) -> float:
    return len(batch)


def size(batch: list[int]) -> int:
    return len(batch)


listed = Loop(outputs(size))
largest = measure("largest", Largest())
measured = listed | largest | mean("halved", halved) | mean("weighted", weight=length)
measured = measured | mean("both", halved, weight=length)
assert_type(measured, Loop[list[int], int, None])
assert_type(measured.run([[1]]).part(largest.part), Measured[float])

# A feature is a function from a loop to a loop; one of the user's is generic.


def quitting(loop: Loop[B, Out, U]) -> Loop[B, Out, U]:
    def stop(state: State[B, Out, U]) -> State[B, Out, U]:
        return state.terminate()

    return loop.on(Events.EPOCH_COMPLETED, stop)


def counting(loop: Loop[B, Out, U], at: When) -> Loop[B, Out, U]:
    def note(state: State[B, Out, U], payload: object = None) -> State[B, Out, U]:
        return state.with_metric("count", 1)

    return loop.on(at, note).with_metrics("count", at=at)


assert_type(listed | quitting, Loop[list[int], int, None])
assert_type(counting(mine | quitting, Events.STARTED), Loop[Pair, Tensor, Notes])

# Evaluations with a record of their own, and steps of one's own that say what they change.


def keep_output(state: State[int, int, Notes]) -> State[int, int, Notes]:
    return state.evolve(user=Notes(float(state.output))).with_metric("best", state.user.best)


def absolute(batch: int) -> int:
    return abs(batch)


held_out = Loop[int, int, Notes](outputs(absolute)).on(Events.ITERATION_COMPLETED, keep_output)
assert_type(listed | evaluation(held_out, [1, 2], user=Notes()), Loop[list[int], int, None])

halfway = Event("halfway")


def forward(state: State[int, int]) -> int:
    return state.batch


chain = stages(forward).changing(model=model).weighing(float).emit(halfway)
assert_type(Loop(chain) | mean("mean") | progress(), Loop[int, int, None])
predicting = Loop(evaluation_step(model))
assert_type(predicting, Loop[Pair, Prediction[Tensor, Tensor], None])
assert_type(
    predicting | accuracy() | early_stopping("accuracy", mode="max", patience=1),
    Loop[Pair, Prediction[Tensor, Tensor], None],
)


def show(state: State[Pair, Tensor]) -> None:
    assert state.output.item() >= 0


tapped = loop.on(Events.EPOCH_COMPLETED, tap(show))


# Averages and guards.

averaged = ema(model, 0.999)
assert_type(averaged.model, nn.Linear)
best = keep_best("val_loss", mode="min", model=model, ema=averaged.model, optimizer=optimizer)
guarded = (
    Loop(training_step(model, optimizer, cross_entropy))
    | seeded(0)
    | stop_on_nan(gradients=True)
    | averaged
    | evaluation(Loop(evaluation_step(averaged.model)) | mean_loss(cross_entropy), data)
    | best
    | time_limit(60.0, clock=time.perf_counter)
)
assert_type(guarded, Loop[Pair, Tensor, None])
assert_type(guarded.run(data).part(best.part), BestValue)
assert_type(mine | averaged | stop_on_nan() | time_limit(60), Loop[Pair, Tensor, Notes])


class Augmented(Dataset[Pair]):
    def __len__(self) -> int:
        return 4

    @override
    def __getitem__(self, index: int) -> Pair:
        return torch.randn(2), torch.ones((), dtype=torch.int64)


augmented = Seeded(Augmented(), seed=0)
assert_type(augmented[0], Pair)
assert_type(Seeded(["a", "b"], seed=0)[0], str)
loader = DataLoader(augmented, batch_size=2, sampler=Shuffled(augmented, seed=0))
assert_type(guarded.run(loader), State[Pair, Tensor, None])


# Before and after a training.

ahead = to_device(data, "cuda")
assert_type(guarded.run(ahead, max_epochs=2), State[Pair, Tensor, None])
assert_type(
    to_device(windows([(torch.ones(2), "a")], 2), torch.device("cpu"), ahead=2),
    Iterable[Window[tuple[Tensor, str]]],
)
predicted: Tensor = predict(model, data, device="cpu")


class Named(TypedDict):
    image: Tensor


def image_of(
    batch: Named, device: str | int | torch.device | None, non_blocking: bool
) -> tuple[Tensor, None]:
    return batch["image"], None


predicted = predict(model, [Named(image=torch.ones(1, 2))], prepare_batch=image_of)
matched = load_matching(model, model.state_dict())
assert_type(matched, Matched)
assert_type(matched.missing, tuple[str, ...])


# How fast it is.

fast = throughput(warmup=2, prefix="train_")
assert_type(fast, Throughput)
assert_type(mine | fast | profiled(), Loop[Pair, Tensor, Notes])


def pairs_in(batch: Pair) -> int:
    return len(batch[0])


fast_loop = guarded | throughput(samples=pairs_in, at=Events.ITERATION_COMPLETED(every=10))
assert_type(fast_loop, Loop[Pair, Tensor, None])
profile = profiled(trace="trace.json", active=5, with_stack=True, file=sys.stdout)
assert_type(fast_loop | profile, Loop[Pair, Tensor, None])
assert_type(profile.profile, Profile | None)


def told(profiler: torch.profiler.profile) -> None: ...


assert_type(mine | profiled(trace=told), Loop[Pair, Tensor, Notes])
engine = Engine(lambda engine, batch: None)
fast.attach(engine)
fast.attach(engine, at=EngineEvents.ITERATION_COMPLETED(every=10))
profile.attach(engine)
RandomState().attach(engine)


# Logs: by ready-made writers and one's own, of a loop of any types.


class Quiet:
    def __init__(self, place: Place) -> None:
        self.begun = place

    def parameters(self, parameters: Mapping[str, Scalar]) -> None: ...

    def numbers(self, place: Place, numbers: Mapping[str, float]) -> None: ...

    def figure(self, place: Place, name: str, figure: Figure) -> None: ...

    def end(self, status: Status) -> None: ...


def quiet(place: Place) -> Writer:
    return Quiet(place)


def draw(state: State[Pair, Tensor, Notes]) -> Figure:
    return Figure()


logged = (
    mine
    | mean("loss")
    | log_to(console(), jsonl("a"), csv_file("b"), at=Events.ITERATION_COMPLETED(every=10))
    | log_to(tensorboard("c"), mlflow("d"), wandb("e", mode="offline"), on_error="raise")
    | log_to(Quiet, quiet, parameters={"lr": 0.1, "adam": {"betas": (0.9, 0.99)}})
    | log_to(quiet, figures={"drawn": draw}, at=Events.EXITED)
    | plots("curves.png", "loss")
)
assert_type(logged, Loop[Pair, Tensor, Notes])
log_to(console()).attach(Engine(lambda engine, batch: None), at="EPOCH_COMPLETED")

# Metrics of torchmetrics, of predictions and of what a function makes of an output.


def number_of(loss: Tensor) -> float:
    return loss.item()


total = torch_metric(object(), "total", value=number_of)
assert_type((loop | total).run(data).part(total.part), Measured[States])
Loop(evaluation_step(model)) | torch_metric(object(), "right")

# Lambdas are as good as functions.

lambdas = (
    Loop(training_step(model, optimizer, loss=lambda own, batch: own(batch[0]).mean()))
    | mean("size", lambda loss: loss.abs(), weight=lambda batch: len(batch[0]))
    | torch_metric(object(), "total", value=lambda loss: loss.abs())
)
assert_type(lambdas, Loop[Pair, Tensor, None])
judged = Loop(evaluation_step(model)) | mean("ones", lambda output: output.y.float().mean())
assert_type(judged.run(data).metrics["ones"], float)
