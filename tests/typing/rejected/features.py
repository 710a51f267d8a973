"""Mistakes in programs with features, each found where it is made."""

import attrs
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from fengine import Events, Loop, Part, State, outputs, tap
from fengine.features import (
    early_stopping,
    ema,
    evaluation,
    find_learning_rate,
    frozen,
    keep_best,
    log_to,
    lr_schedule,
    plots,
    profiled,
    progress,
    seeded,
    stop_on_nan,
    throughput,
    time_limit,
)
from fengine.metrics import accuracy, mean, mean_loss, measure, torch_metric
from fengine.training import (
    Seeded,
    Window,
    evaluation_step,
    load_matching,
    predict,
    to_device,
    training_step,
    windows,
)
from fengine.writers import console, jsonl, mlflow, tensorboard, wandb

Pair = tuple[Tensor, Tensor]
model = nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
pairs: list[Pair] = []


@attrs.frozen
class Notes:
    best: float = 0.0


notes = Part("notes", Notes())
training = Loop(training_step(model, optimizer, mse_loss))
predicting = Loop(evaluation_step(model))
naming = Loop(outputs(str))


def keep(state: State[Pair, Tensor]) -> State[Pair, Tensor]:
    return state


def of_text(state: State[str, str]) -> State[str, str]:
    return state


def length_of(text: str) -> float:
    return len(text)


# Features of other loops.

training | accuracy()  # error: operator
training | mean_loss(mse_loss)  # error: operator
predicting | mean("loss")  # error: operator
naming | mean("loss")  # error: operator
training | mean("loss", str)  # error: arg-type
training | mean("loss", weight=abs)  # error: arg-type

# What is no feature.

training | keep  # error: operator
training | tap(keep)  # error: operator
training | 3  # error: operator
training | early_stopping  # error: operator
training | progress  # error: operator

# Arguments: a misspelt word, a function in the place of a name, and the wrong kind of thing.

early_stopping("loss", mode="maximum", patience=3)  # error: arg-type
early_stopping("loss", patience=3)  # error: call-arg
early_stopping("loss", mode="min", patience=0.5)  # error: arg-type
early_stopping(keep, mode="min", patience=3)  # error: arg-type
accuracy(task="classes")  # error: arg-type
lr_schedule(optimizer)  # error: arg-type
evaluation(keep, pairs)  # error: call-overload
evaluation(predicting, [1, 2])  # error: misc
progress(3)  # error: arg-type
measure("loss", notes)  # error: arg-type

# Parts: of another type, and named by a string.

State().with_part(notes, 3)  # error: misc
State().part("notes")  # error: arg-type
State().part(notes).worst  # error: attr-defined
training.with_part("notes")  # error: arg-type
training.with_external(model=3)  # error: arg-type
training.with_metrics("loss")  # error: call-arg
training.read({}, user=3)  # error: arg-type
notes.initial = Notes()  # error: misc

# Steps: fed with other batches, and loops with other outputs.

training.run([1, 2])  # error: list-item
training.run(windows(pairs, 2))  # error: arg-type
Loop[Window[Pair], Tensor](training_step(model, optimizer, mse_loss)).run(pairs)  # error: arg-type
Loop[Pair, str](training_step(model, optimizer, mse_loss))  # error: arg-type
training_step(model, optimizer)  # error: call-overload
training_step(model, optimizer, mse_loss, loss=mse_loss)  # error: call-overload
training_step(model, optimizer, mse_loss, autocast="bf16")  # error: call-overload
training_step(model, mse_loss, optimizer)  # error: call-overload
training.on(Events.EPOCH_COMPLETED, of_text)  # error: arg-type

# Averages and guards.

ema(optimizer, 0.9)  # error: call-overload
ema(model)  # error: call-overload
ema(model, "0.9")  # error: call-overload
keep_best("loss", model=model)  # error: call-arg
keep_best("loss", mode="least", model=model)  # error: arg-type
keep_best("loss", mode="min", model=3)  # error: arg-type
stop_on_nan(True)  # error: call-arg
time_limit("60")  # error: arg-type
time_limit(60, clock=abs)  # error: arg-type
seeded(0.5)  # error: arg-type
Seeded(pairs)  # error: call-arg
Seeded(iter(pairs), seed=0)  # error: arg-type
training | ema  # error: operator
training | keep_best  # error: operator

# Freezing.

frozen(optimizer)  # error: arg-type
frozen(model, 2)  # error: call-arg
frozen(model, until="2")  # error: arg-type
frozen(model, eval_mode=1)  # error: arg-type
training | frozen  # error: operator

# Before and after a training.

to_device(3, "cpu")  # error: arg-type
to_device(pairs, 0.5)  # error: arg-type
to_device(pairs, "cpu", "1")  # error: arg-type
training.run(to_device([1, 2], "cpu"))  # error: list-item
predict(optimizer, pairs)  # error: arg-type
predict(model, pairs, prepare_batch=str)  # error: arg-type
load_matching(model, model)  # error: arg-type
load_matching(model.state_dict(), model)  # error: arg-type
find_learning_rate(training, [1, 2])  # error: misc
find_learning_rate(model, pairs)  # error: call-overload
find_learning_rate(training, pairs, loss=str)  # error: arg-type
find_learning_rate(training, pairs, iterations=0.5)  # error: call-overload
find_learning_rate(training, pairs).suggestion.real  # error: union-attr
training.try_out([1, 2])  # error: list-item
training.try_out(pairs, "2")  # error: call-overload
training.try_out(pairs).output.worst  # error: attr-defined

# How fast it is.

throughput(warmup="2")  # error: call-overload
throughput(samples=3)  # error: call-overload
training | throughput(samples=str.__len__)  # error: arg-type
throughput().attach(training)  # error: arg-type
profiled(shapes=True)  # error: call-arg
profiled(trace=3)  # error: arg-type
profiled(active="3")  # error: arg-type
profiled(file=3)  # error: arg-type
training | profiled  # error: operator

# Logs.

log_to("log.jsonl")  # error: arg-type
log_to(jsonl)  # error: arg-type
log_to(console(), on_error="ignore")  # error: arg-type
log_to(console(), at="EPOCH_COMPLETED")  # error: arg-type
log_to(console(), figures={"drawn": str})  # error: dict-item
log_to(console()).attach(training)  # error: arg-type
jsonl(3)  # error: arg-type
console("log.txt")  # error: arg-type
tensorboard()  # error: call-arg
mlflow()  # error: call-arg
wandb("first", mode="off")  # error: arg-type
plots("curves.png", 3)  # error: arg-type

# Metrics of torchmetrics: of outputs that they do not take.

training | torch_metric(model)  # error: operator
training | torch_metric(model, value=length_of)  # error: arg-type
torch_metric(model, value=3)  # error: call-overload
