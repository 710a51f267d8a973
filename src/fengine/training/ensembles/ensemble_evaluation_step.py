"""The ensemble evaluation step: predictions of all members with what the state keeps of them.

It changes nothing: not the model, not the state, and not the random state of either. Members that
are no longer trained predict, too.
"""

from __future__ import annotations

from typing import Any, final

import attrs
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from typing_extensions import override

from fengine import Stages, State, stages
from fengine.core.describe import call_in_words
from fengine.core.steps import Facts, telling
from fengine.training.counting import count_samples
from fengine.training.ensembles.common_draws import drawing
from fengine.training.ensembles.ensemble_arguments import Method, require_one_of
from fengine.training.ensembles.ensemble_state import EnsembleState, whole_of
from fengine.training.ensembles.keeping_ensembles import EnsembleInUser
from fengine.training.ensembles.stacked_gradients import Named, buffers_put_back, explained
from fengine.training.ensembles.stacking import members
from fengine.training.evaluation_step import Batch, Prediction
from fengine.training.functional.copying import copies_of
from fengine.training.functional.in_use import Use
from fengine.training.functional.viewing import View, Viewer
from fengine.training.modes import EvaluationMode, is_settled
from fengine.training.preparing import prepare_batch
from fengine.training.training_step import require_module


@final
@attrs.frozen(eq=False)
class _PredictTogether:
    """Predict with all members at once."""

    viewer: Viewer

    def __call__(self, ensemble: EnsembleState, x: object) -> Any:
        viewer, model = self.viewer, self.viewer.model
        parameters, buffers = whole_of(ensemble)
        if not parameters.fits(viewer.layout.names):
            viewer.layout.require_fitting_model(members(ensemble)[0])
        copies = dict(zip(buffers.known.names, copies_of(buffers.whole()), strict=True))
        many = vmap(self._one, in_dims=(0, 0, None), randomness="different")
        with (
            drawing(Use(viewer.ids, model), viewer.generators, ensemble),
            buffers_put_back(model),
            explained(model, "ensemble_evaluation_step(model, method='loop')"),
        ):
            return many(dict(parameters.named()), copies, x)

    def _one(self, parameters: Named, buffers: Named, x: object) -> object:
        return functional_call(self.viewer.model, {**parameters, **buffers}, (x,))


@final
@attrs.frozen(eq=False)
class _PredictInTurn:
    """Predict with one member after the other."""

    viewer: Viewer

    def __call__(self, ensemble: EnsembleState, x: object) -> Any:
        found = []
        for member in members(ensemble):
            with View(self.viewer, member):
                found.append(self.viewer.model(x))
        if all(isinstance(one, Tensor) for one in found):
            return torch.stack(found)
        raise TypeError(
            f"the {type(self.viewer.model).__name__} predicts a {type(found[0]).__name__}, and "
            "method='loop' stacks tensors; use method='vmap', which stacks what is in it"
        )


@final
@attrs.frozen(repr=False)
class _Predict:
    """Predict with what the state keeps: the only stage."""

    predict: _PredictTogether | _PredictInTurn

    @override
    def __repr__(self) -> str:
        return "predict"

    def __call__(
        self, state: State[Any, Prediction[Tensor, Tensor], EnsembleState]
    ) -> Prediction[Tensor, Tensor]:
        ensemble, model = EnsembleInUser().read(state), self.predict.viewer.model
        x, y = prepare_batch(state.batch)
        if is_settled(model, False):
            with torch.no_grad():
                return Prediction(self.predict(ensemble, x), y)
        with EvaluationMode(model)(), torch.no_grad():
            return Prediction(self.predict(ensemble, x), y)


def ensemble_evaluation_step(
    model: nn.Module, *, method: Method = "vmap"
) -> Stages[Batch, Prediction[Tensor, Tensor], Prediction[Tensor, Tensor], EnsembleState]:
    """Make the step that predicts with all members of the ensemble that is the user's record.

    `y_pred` has what each member predicts, of shape (K, n, ...), in their order; those that are no
    longer trained predict as before. `accuracy` and `mean_loss` measure each member. In a training,
    evaluate with the record of the outer run: `evaluation(loop, data, user=OUTER)`.

    Law: each row is to rounding what a functional evaluation step predicts with that member.

    Args:
        model: predicts with what the members have; the template of the ensemble, or a copy of it.
        method: "vmap" for all at once, or "loop" for one after the other, for models that `vmap`
            refuses.

    Raises:
        TypeError: an argument is of the wrong kind; or, in the run, a batch is not a pair, or the
            user's record is no `EnsembleState`.
        ValueError: `method` is not known; or, in the run, the ensemble is one of another model.
        RuntimeError: in the run, the model is in use.

    >>> from fengine import Loop
    >>> from fengine.metrics import member_values, mean_loss
    >>> from fengine.training import ensemble_step, sgd
    >>> model, other = nn.Linear(1, 1), nn.Linear(1, 1)
    >>> start = ensemble_step(model, sgd(0.1), nn.MSELoss()).init([model, other])
    >>> held_out = Loop(ensemble_evaluation_step(model)) | mean_loss(nn.MSELoss())
    >>> final = held_out.run([(torch.ones(4, 1), torch.zeros(4, 1))], user=start)
    >>> final.output.y_pred.shape, len(member_values(final, "loss"))
    (torch.Size([2, 4, 1]), 2)
    """
    require_module(model)
    require_one_of("method", method, Method)
    viewer = Viewer(model)
    predict = _PredictTogether(viewer) if method == "vmap" else _PredictInTurn(viewer)
    made: Stages[Any, Any, Prediction[Tensor, Tensor], EnsembleState] = stages(_Predict(predict))
    shown = {} if method == "vmap" else {"method": method}
    words = call_in_words("ensemble_evaluation_step", model, **shown)
    step = made.within(EvaluationMode(model))
    return telling(step, Facts(count_samples, Prediction, words, members=True))
