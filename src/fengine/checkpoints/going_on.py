"""Going on: a kept run taken up again, in its record and in its things outside the state.

What does not fit is listed before a tensor is read. Then the things take up their states one after
the other, and the tensors of modules and optimizers one by one, so that no second copy of all is
ever made.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, TypeVar, final

import attrs
import torch
from immutables import Map

from fengine import Loop, Snapshot
from fengine.checkpoints.errors import CheckpointError
from fengine.checkpoints.of_ranks import counted_by_first, for_rank
from fengine.checkpoints.open_tensors import Like, OpenTensors
from fengine.checkpoints.retention import Kept
from fengine.checkpoints.saving import EPOCH_IS_OVER
from fengine.checkpoints.tree import Tensors, is_sharded, may_be_sharded, shards_of
from fengine.core.describe import brief
from fengine.core.stateful import Stateful
from fengine.features.seeding import seed_of
from fengine.keep.external import require_names
from fengine.keep.fitting import (
    has_own_hooks,
    is_module,
    is_trained,
    loads_as_modules_do,
    require_fitting,
)
from fengine.keep.readers import SnapshotError
from fengine.keep.structure import is_structured

B = TypeVar("B")
O = TypeVar("O")  # noqa: E741  # the output, beside the batch and the user
U = TypeVar("U")


def snapshot_of(
    loop: Loop[B, O, U], kept: Kept, tree: Mapping[str, object], user: U
) -> Snapshot[B, O, U]:
    """Read a kept snapshot of a loop, whose user's record is read by the type of another one.

    On several ranks it is what this one takes up.

    Raises:
        CheckpointError: it is of another loop, or its record is of another type.
    """
    if "engine" in tree:
        raise CheckpointError(
            kept.path, "was kept by an Engine, and no Loop goes on from it; use Checkpoints.restore"
        )
    try:
        plain = for_rank(loop.ranks, loop.external, kept, tree, seed_of(loop))
        plain.pop(EPOCH_IS_OVER, None)
        snapshot = read_snapshot(loop, plain, user)
        return attrs.evolve(snapshot, state=counted_by_first(loop, snapshot.state))
    except SnapshotError as error:
        raise CheckpointError(kept.path, f"does not fit this loop: {error}") from error


def read_snapshot(loop: Loop[B, O, U], plain: Mapping[str, Any], user: U) -> Snapshot[B, O, U]:
    """Read a snapshot of a loop, whose record is of the type of another one.

    Raises:
        SnapshotError: it is of another loop, or its record is of another type.
    """
    kind: Any = type(user)
    has_rules = user is not None and is_structured(kind)
    try:
        snapshot = loop.read(plain, user=kind if has_rules else _as_it_is)
    except SnapshotError as error:
        if not (error.path == _RECORD or error.path.startswith((f"{_RECORD}.", f"{_RECORD}["))):
            raise
        raise _other_record(plain["state"]["user"], user, error) from error
    if not has_rules and type(snapshot.state.user) is not kind:
        raise _other_record(snapshot.state.user, user)
    return snapshot


_RECORD: Final = "state.user"


def _as_it_is(value: Any) -> Any:
    return value


def _other_record(kept: object, user: object, error: SnapshotError | None = None) -> SnapshotError:
    """Return the error of a record that is of another type than the one that was given."""
    if kept is None:
        said = f"the run that was kept has no record, and user= is {brief(user)}; leave it out"
    elif user is None:
        said = f"the run that was kept has the record {brief(kept)}; give user= one of its type"
    else:
        path = "" if error is None else error.path.removeprefix("state.")
        why = "" if error is None else f" ({path}: {error.reason})"
        said = (
            f"the record of the run was written as {brief(kept)}, which is not read as the type "
            f"of user=, {type(user).__name__}{why}; give user= a record as the run had it"
        )
    return SnapshotError(_RECORD, said)


def require_fit(loop: Loop[B, O, U], kept: Kept, snapshot: Snapshot[B, O, U]) -> None:
    """Refuse a snapshot whose things do not fit those of a loop; its tensors may hold no data.

    Raises:
        CheckpointError: it does not fit; the message lists all differences.
    """
    try:
        require_names(loop.external, snapshot.external)
        require_fitting(loop.external, snapshot.external, snapshot.classes)
    except ValueError as error:
        raise CheckpointError(kept.path, str(error)) from None


def restore(
    external: Mapping[str, Stateful],
    tensors: OpenTensors,
    instead: Mapping[str, object] = Map(),
) -> None:
    """Have things take up the states of a checkpoint, which fit them.

    An optimizer first lets go of the state that it has, then takes up the other tensor by tensor.

    A thing may refuse its state, unless it is an optimizer of torch, or a module that has just the
    tensors that it saves. So those that may come first, and all of them are put back where one
    does.

    Args:
        external: the things.
        tensors: the checkpoint.
        instead: the states of some of them, in the place of those in the checkpoint.

    Raises:
        BaseException: whatever a thing raises, with a note that names it.
    """
    held = {name: own for name, one in external.items() if (own := _held(one)) is not None}
    obeys = {
        n: n in held or (is_trained(one) and not is_module(one)) for n, one in external.items()
    }
    before: dict[str, object] = {}
    try:
        for name in sorted(external, key=lambda one: (obeys[one], one)):
            thing: Any = external[name]
            if not obeys[name]:
                before[name] = copy.deepcopy(thing.state_dict())
            try:
                if name in held:
                    tensors.copy_into(held[name], "external", name)
                elif name in instead:
                    thing.load_state_dict(instead[name])
                elif obeys[name] and _is_read_in_parts(thing, tensors.names("external", name)):
                    _load_optimizer(thing, tensors, name)
                else:
                    like = sharded_as({name: thing})
                    thing.load_state_dict(tensors.filled("external", name, like=like))
            except BaseException as error:
                error.add_note(f"in restoring external[{name!r}]")
                raise
    except BaseException as error:
        for name, state in before.items():
            try:
                external[name].load_state_dict(state)
            except Exception as another:
                error.add_note(
                    f"external[{name!r}] could not be put back: its load_state_dict() raised "
                    f"{another!r}"
                )
        raise


def _held(thing: Any) -> Mapping[str, torch.Tensor] | None:
    """Return the tensors of a module that are all it saves; None where loading does more."""
    if not loads_as_modules_do(thing):
        return None
    if any(map(has_own_hooks, (one._load_state_dict_post_hooks for one in thing.modules()))):
        return None
    own = thing.state_dict()
    held = {
        **dict(thing.named_parameters(remove_duplicate=False)),
        **dict(thing.named_buffers(remove_duplicate=False)),
    }
    return own if all(_is_same(one, held.get(name)) for name, one in own.items()) else None


def _is_same(saved: Any, held: torch.Tensor | None) -> bool:
    """Tell whether what a module saves is what it has, and no copy and no state of another kind."""
    if held is None or not isinstance(saved, torch.Tensor):
        return False
    lies, lay = ((_here(one).data_ptr(), one.shape, one.stride()) for one in (saved, held))
    return lies == lay and is_sharded(saved) == is_sharded(held)


def _here(tensor: Any) -> torch.Tensor:
    """Return what this process holds of a tensor."""
    here: torch.Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return here


def sharded_as(external: Mapping[str, Stateful]) -> Like:
    """Return what says for the names of saved tensors which tensors they are to be sharded like.

    What a thing has by that name says so, and what an optimizer keeps of a parameter is sharded as
    the parameter is.
    """
    own: Tensors = {}
    for name, thing in external.items() if may_be_sharded() else ():
        if is_trained(thing) and not is_module(thing):
            optimizer: Any = thing
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            for number, parameter in enumerate(parameters):
                if is_sharded(parameter):
                    own[f"external.{name}.state.{number}"] = parameter.detach()
        else:
            own.update(shards_of({"external": {name: thing.state_dict()}}))

    def like(name: str) -> torch.Tensor | None:
        parent, _, last = name.rpartition(".")
        return own.get(name, None if last == "step" else own.get(parent))

    return like


def _is_read_in_parts(optimizer: Any, names: Collection[str]) -> bool:
    """Tell whether only torch looks at the state of an optimizer, entry by entry."""
    return {"state", "param_groups"} <= {*names} and not (
        optimizer._optimizer_load_state_dict_pre_hooks
    )


def _load_optimizer(optimizer: Any, tensors: OpenTensors, name: str) -> None:
    path = "external", name
    state = {key: tensors.filled(*path, key) for key in tensors.names(*path) if key != "state"}
    optimizer.state = defaultdict(dict)
    entries = _ReadWhenAsked(tensors, (*path, "state"), sharded_as({name: optimizer}))
    optimizer.load_state_dict({**state, "state": entries})


@final
class _ReadWhenAsked:
    """Be what an optimizer keeps for each parameter, each entry read as it is asked for."""

    def __init__(self, tensors: OpenTensors, path: tuple[str, ...], like: Like) -> None:
        self._tensors, self._path, self._like = tensors, path, like

    def items(self) -> Iterator[tuple[Any, Any]]:
        return self._tensors.each(*self._path, like=self._like)
