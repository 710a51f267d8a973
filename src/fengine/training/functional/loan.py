"""Loans: how a value gets into a model and its optimizer, and comes out as the next one.

For one iteration they get copies of what can change of a value, and are trained in place. What they
have then is the next value, and they get back what they had. So nothing of a value can be reached
from the model, and no value is ever changed.

What cannot change is the same tensor in all values: parameters without a gradient, and those that
the optimizer does not hold. That nothing changes them in place is checked by their version. Buffers
are always copied, since batch norm does not count its changes of them.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, final
from weakref import ref

import attrs
from torch import Tensor

from fengine.training.functional.copying import copies_of, copies_of_states
from fengine.training.functional.generators import states_of
from fengine.training.functional.lender import Lender
from fengine.training.functional.settings import Settings, are_in, copied, put, values_in
from fengine.training.functional.train_state import OptimizerState, TrainState, with_rates
from fengine.training.functional.values import Values, values_of


@final
@attrs.frozen(eq=False)
class _Home:
    """Hold what a model and its optimizer had before they were lent a value."""

    data: list[Tensor]
    gradients: list[Tensor | None]
    buffers: list[list[Tensor | None]]
    states: dict[Tensor, Any]
    settings: Settings
    random: list[Tensor]
    scaler: dict[str, Any] | None


@final
class Loan:
    """Lend a value for one iteration; a context, in which the model is nobody else's.

    Args:
        lender: has the model and the optimizer.

    >>> import torch
    >>> model = torch.nn.Linear(1, 1)
    >>> lender = Lender(model, torch.optim.SGD(model.parameters(), 0.5))
    >>> start, own = lender.capture(None), model.weight.data_ptr()
    >>> with Loan(lender) as loan:
    ...     loan.lend(start)
    ...     model.weight.data_ptr() == own
    False
    >>> model.weight.data_ptr() == own
    True
    """

    __slots__ = (
        "__weakref__",
        "_changing",
        "_groups",
        "_home",
        "_is_put",
        "_lender",
        "_placed",
        "_shared",
        "_tensors",
        "_use",
        "_value",
    )

    def __init__(self, lender: Lender) -> None:
        self._lender = lender
        self._use = lender.use()
        self._home: _Home | None = None
        self._value: TrainState | None = None
        self._tensors: list[Tensor] = []
        self._changing: list[int] = []
        self._shared: list[tuple[int, int]] = []
        self._groups: tuple[Values[Any], ...] = ()
        self._placed: list[tuple[Any, ...]] | None = None
        self._is_put = False

    def __enter__(self) -> Loan:
        self._use.begin()
        self._lender.loans[:] = [ref(self)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def __del__(self) -> None:
        self.end()  # where a signal has come right after the context was entered

    def end(self) -> None:
        """Give back what the model and the optimizer had, and let others use them."""
        if not self._use.has_begun:
            return
        try:
            try:
                self._give_back()
            except BaseException:  # which may be a signal that came while it was given back
                self._give_back()
                raise
        finally:
            self._lender.loans.clear()
            self._use.end()

    def lend(self, value: TrainState) -> None:
        """Put copies of a value into the model and the optimizer.

        Raises:
            ValueError: the value is of another model or optimizer.
            RuntimeError: the value is used up, or somebody else has changed the settings of the
                optimizer.
        """
        lender = self._lender
        layout, optimizer = lender.layout, lender.optimizer
        if not layout.fits(value):
            layout.require_fitting(value)
        settings = lender.known.require(optimizer, value.optimizer.param_groups)
        self._home, self._value = self._at_home(settings), value
        self._lend_parameters(value.parameters.in_order(layout.names), self._home)
        layout.lend_buffers(value.buffers)
        self._lend_states(value.optimizer.state.in_order(layout.held))
        self.set_groups(value.optimizer.param_groups)
        self._lend_random(value.random)
        if lender.scaler is not None and value.scaler:
            lender.scaler.load_state_dict(dict(value.scaler))

    def _at_home(self, settings: Settings) -> _Home:
        lender, layout = self._lender, self._lender.layout
        return _Home(
            lender.at_home(),
            [one.grad for one in layout.parameters],
            layout.buffers_at_home(),
            dict(lender.optimizer.state),
            settings,
            [one.get_state() for one in lender.generators],
            None if lender.scaler is None else lender.scaler.state_dict(),
        )

    def _lend_parameters(self, tensors: tuple[Tensor, ...], home: _Home) -> None:
        lender, parameters = self._lender, self._lender.layout.parameters
        places = lender.layout.held_places
        self._changing = changing = [one for one in places if parameters[one].requires_grad]
        self._tensors = lent = list(tensors)
        if not lender.donate:
            copies = copies_of([lent[one] for one in changing])
            for place, tensor in zip(changing, copies, strict=True):
                lent[place] = tensor
        for parameter, tensor in zip(parameters, lent, strict=True):
            parameter.data = tensor
        for parameter, gradient in zip(parameters, home.gradients, strict=True):
            if gradient is not None:
                parameter.grad = None
        if len(changing) < len(parameters):
            rest = set(range(len(parameters))).difference(changing)
            self._shared = [(place, parameters[place]._version) for place in sorted(rest)]

    def _lend_states(self, states: tuple[Values[Any], ...]) -> None:
        lender, layout = self._lender, self._lender.layout
        own = lender.optimizer.state
        own.clear()
        if states is lender.nothing:
            return
        copies = states if lender.donate else copies_of_states(states)
        for place, entries in zip(layout.held_places, copies, strict=True):
            if entries.known.names:
                own[layout.parameters[place]] = dict(entries.named())

    def _lend_random(self, random: Values[Tensor]) -> None:
        lender = self._lender
        if random.fits(lender.devices):
            for generator, state in zip(lender.generators, random.whole(), strict=True):
                generator.set_state(state)
            return
        for device, generator in zip(lender.devices.names, lender.generators, strict=True):
            if device in random:
                generator.set_state(random[device])

    def set_groups(self, groups: tuple[Values[Any], ...]) -> None:
        """Put settings into the groups of the optimizer, where it does not have them already."""
        optimizer, known = self._lender.optimizer, self._lender.known
        if groups is not known.groups or self._is_put:
            self._is_put = True
            put(optimizer, [copied(group.named()) for group in groups])
        self._groups = groups
        as_known = not self._is_put and known.values is not None
        self._placed = known.values if as_known else values_in(optimizer)

    def begin_update(self, now: TrainState, rate: Any) -> None:
        """Take up the settings of the state as it is now; from here on, a donated value is used up.

        Args:
            now: the value that the state has now.
            rate: the learning rate, or one for each group; None: what the settings say.

        Raises:
            RuntimeError: something else than the settings has been changed since the value was
                lent.
        """
        value, layout = self._value, self._lender.layout
        if value is None:
            raise RuntimeError("nothing is lent, so there is nothing to update")
        if now is not value:
            _require_only_settings(value, now)
            layout.require_groups(now.optimizer.param_groups)
        groups = now.optimizer.param_groups
        if rate is not None:
            groups = with_rates(groups, rate)
        if groups is not self._groups:
            self.set_groups(groups)
        if self._lender.donate:
            _give_up(value)

    def take(self, *, stepped: bool) -> TrainState:
        """Return what the model and the optimizer have now as the next value.

        Raises:
            RuntimeError: the iteration has changed a parameter that all values share.
        """
        value, lender, layout = self._value, self._lender, self._lender.layout
        assert value is not None, "something is lent"
        parameters, tensors = layout.parameters, self._tensors
        for place, version in self._shared:
            if parameters[place]._version != version:
                raise RuntimeError(_changed_in_place(layout.names.names[place]))
        if not all(map(Tensor.is_set_to, parameters, tensors)):
            for place in self._changing:
                tensors[place] = parameters[place].data
        return TrainState(
            values_of(layout.names, tuple(tensors)),
            lender.buffers(),
            OptimizerState(self._settings(), values_of(layout.held, lender.states())),
            states_of(lender.devices, lender.generators),
            lender.scaler_state(),
            value.updates + stepped,
            stepped,
        )

    def _settings(self) -> tuple[Values[Any], ...]:
        """Return the settings as they are, which mostly are those that were lent."""
        optimizer = self._lender.optimizer
        if self._placed is not None and are_in(optimizer, self._placed):
            return self._groups
        self._is_put = True
        return self._lender.settings()

    def _give_back(self) -> None:
        home = self._home
        if home is None:
            return
        lender, layout = self._lender, self._lender.layout
        for parameter, data, gradient in zip(
            layout.parameters, home.data, home.gradients, strict=True
        ):
            parameter.data = data
            parameter.grad = gradient
        layout.put_buffers(home.buffers)
        state = lender.optimizer.state
        state.clear()
        state.update(home.states)
        if self._is_put or (self._placed and not are_in(lender.optimizer, self._placed)):
            put(lender.optimizer, home.settings)
        for generator, random in zip(lender.generators, home.random, strict=True):
            generator.set_state(random)
        if lender.scaler is not None and home.scaler:
            lender.scaler.load_state_dict(home.scaler)
        self._home = self._value = None


def loan_of(lender: Lender) -> Loan:
    """Return the loan that a lender has given to the iteration that runs now."""
    loan = lender.loans[0]()
    assert isinstance(loan, Loan), "a loan lives as long as its context"
    return loan


def _give_up(value: TrainState) -> None:
    """Use a value up, but for what has nothing in it, which others may have too."""
    states = value.optimizer.state
    for held in (*states.whole(), states, value.parameters, value.buffers, value.random):
        if held.known.names:
            held.give_up()


def _require_only_settings(before: TrainState, now: TrainState) -> None:
    """Refuse a value of which something else than the settings is another one."""
    same = (
        now.parameters is before.parameters
        and now.buffers is before.buffers
        and now.optimizer.state is before.optimizer.state
        and now.random is before.random
        and now.scaler is before.scaler
        and now.updates == before.updates
    )
    if not same:
        raise RuntimeError(
            "a handler of an event within the step has changed the training in the state, which "
            "the model was lent before; there only the settings can be changed, as by "
            "with_learning_rate. Change all else at Update.COMPLETED, or at an event after the step"
        )


def _changed_in_place(name: str) -> str:
    return (
        f"the iteration has changed the parameter {name} in place, which requires no gradient or "
        "is not held by the optimizer. So all values of the training share it, and are damaged "
        "now; make it a buffer, or have the optimizer hold it and require a gradient"
    )
