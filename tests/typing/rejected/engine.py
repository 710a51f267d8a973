"""Code written for the Engine that the type checker must refuse."""

from fengine.engine import Engine, Events, State


def train(engine: Engine, batch: float) -> float:
    return batch / 2


def too_few(engine: Engine) -> None: ...


engine = Engine(train)
Engine(too_few)  # error: arg-type
Engine()  # error: call-arg
engine.add_event_handler(Events.STARTED, "no handler")  # error: arg-type
engine.run(3)  # error: arg-type
engine.run([1.0], max_epochs="3")  # error: arg-type
engine.run([1.0], epochs=3)  # error: call-arg
engine.state = 3  # error: assignment
engine.state.iteration = "first"  # error: assignment
name: str = engine.state.epoch  # error: assignment
engine.state.metrics.nonsense()  # error: attr-defined
engine.terminate_all()  # error: attr-defined
Events.STARTD  # error: attr-defined
Events.STARTED(evry=2)  # error: call-arg
State().get_event_attrib_value()  # error: call-arg
