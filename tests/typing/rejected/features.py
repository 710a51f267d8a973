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
    keep_best,
    lr_schedule,
    progress,
    seeded,
    stop_on_nan,
    time_limit,
)
from fengine.metrics import accuracy, mean, mean_loss, measure
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

# Before and after a training.

to_device(3, "cpu")  # error: arg-type
to_device(pairs, 0.5)  # error: arg-type
to_device(pairs, "cpu", "1")  # error: arg-type
training.run(to_device([1, 2], "cpu"))  # error: list-item
predict(optimizer, pairs)  # error: arg-type
predict(model, pairs, prepare_batch=str)  # error: arg-type
load_matching(model, model)  # error: arg-type
load_matching(model.state_dict(), model)  # error: arg-type
