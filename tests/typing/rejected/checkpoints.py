"""Mistakes with checkpoints and before a training, each found where it is made."""

from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

from fengine import Loop
from fengine.checkpoints import Best, Checkpoints, Preemption, weights
from fengine.features import find_learning_rate, frozen
from fengine.training import training_step

Pair = tuple[Tensor, Tensor]
model = nn.Linear(2, 1)
data: list[Pair] = []
loop = Loop(training_step(model, optim.SGD(model.parameters(), 0.1), mse_loss))

Checkpoints("runs/a", keep="2")  # error: arg-type
Checkpoints("runs/a", best="loss")  # error: arg-type
Checkpoints("runs/a", on_error="ignore")  # error: arg-type
Checkpoints("runs/a", preemption=Preemption)  # error: arg-type
Best("loss")  # error: call-arg
Best("loss", mode="least")  # error: arg-type
Preemption("SIGTERM")  # error: arg-type
weights("runs/a")  # error: call-arg
Checkpoints("runs/a").run(model, data)  # error: call-overload
Checkpoints("runs/a").run(loop, data, user=3)  # error: misc
loop.run(data, preemption=3)  # error: call-overload
loop.try_out(data, "2")  # error: call-overload
find_learning_rate(model, data)  # error: call-overload
frozen(3)  # error: arg-type
loop | frozen  # error: operator
