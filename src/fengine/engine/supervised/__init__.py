"""The room of supervised tasks: engines that train and evaluate a model on inputs and targets.

An engine calls one function of `(engine, batch)` in each iteration. This room makes such functions
from the parts of a task, and makes engines from such functions:

- `factories` makes whole engines, `create_supervised_trainer` and `create_supervised_evaluator`.
- `training_functions` and `evaluation_functions` make the function for one way of computing.
- `process_functions` holds what these functions do with a batch, and in which order.
- `forward`, `descent` and `precision` have the parts among which a way of computing chooses.
- `task_parts` has the types of what a user may replace, and what is used otherwise.
- `optional_packages` imports what may be absent, or says how to get it.

The room imports the Engine and `fengine.training`. No other module of `fengine.engine` imports the
room, but for the names that the package itself imports late, and the room that stands in for
pytorch-ignite.
"""
