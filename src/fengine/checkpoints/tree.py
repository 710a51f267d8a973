"""Trees: plain values and tensors, as JSON and named tensors, and back.

Reading runs nothing: there is no pickle, and no name of a class. A value that has no JSON of its
own is an object whose first key begins with `$`. Whatever is no plain value is refused by its path.

A sharded tensor, of which this process holds a part, is named apart from the others.

Law: `join(*split(tree))` is the tree, with its types and to the bit. Tensors come back as plain
tensors without gradients, on the CPU, with their strides where they fill their memory; tied ones
are one tensor again.
"""

from __future__ import annotations

import base64
import contextlib
import math
import struct
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import torch
from immutables import Map
from torch.nn.parameter import is_lazy

Tensors: TypeAlias = dict[str, torch.Tensor]
TensorOf: TypeAlias = Callable[[str], torch.Tensor]
# By its name, its dtype and its shape as a whole.
ShardOf: TypeAlias = Callable[[str, torch.dtype, torch.Size], Any]

_MARK: Final = "$"
_SHARDING: Final = "torch.distributed.tensor"
# Deeper than any state, and far from the depth at which Python gives up.
_DEEPEST: Final = 100
_MAPS: Final[dict[type, str]] = {
    dict: "$dict",
    OrderedDict: "$ordered",
    Counter: "$counter",
    Map: "$map",
}
_LISTS: Final[dict[type, str]] = {
    tuple: "$tuple",
    torch.Size: "$size",
    set: "$set",
    frozenset: "$frozenset",
}
_MADE: Final[dict[str, Callable[[Any], Any]]] = {
    word: kind for kinds in (_MAPS, _LISTS) for kind, word in kinds.items()
}
_ARRAYS: Final = "biufc"
_WIDEST: Final = 64  # bits; Python reads no number of some thousand digits
_AS_IT_IS: Final = ("utf-8", "surrogatepass")  # texts that are not Unicode
_DTYPES: Final = frozenset(
    {
        torch.bool,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex64,
        torch.complex128,
        torch.float8_e4m3fn,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2,
        torch.float8_e5m2fnuz,
    }
)


class NotPlain(ValueError):
    """Tell that a value is no plain one, by its path."""


def may_be_sharded() -> bool:
    """Tell whether this process has imported what shards tensors."""
    return _SHARDING in sys.modules


def is_sharded(value: object) -> bool:
    """Tell whether a value is a tensor that is sharded over ranks."""
    return may_be_sharded() and isinstance(value, sys.modules[_SHARDING].DTensor)


def split(tree: object, sharded: Tensors | None = None) -> tuple[Any, Tensors]:
    """Return a tree as what JSON knows, and its tensors by their names.

    A tensor that can be written as it lies is not copied.

    Args:
        tree: the tree.
        sharded: what takes up the tensors that are sharded, by their names; None: there are none.

    Raises:
        NotPlain: the tree holds something else, which is named.

    >>> split({"weight": torch.ones(2), "steps": (1, 2)})
    ({'weight': {'$tensor': 'weight'}, 'steps': {'$tuple': [1, 2]}}, {'weight': tensor([1., 1.])})
    """
    splitting = _Splitting(sharded)
    return splitting.value(tree, ""), splitting.tensors


def shards_of(tree: object) -> Tensors:
    """Return the sharded tensors of a tree, by the names that `split` gives them."""
    sharded: Tensors = {}
    if may_be_sharded() and _has_shards(tree):
        with contextlib.suppress(NotPlain):  # to split it for writing raises this again
            split(tree, sharded)
    return sharded


def join(plain: object, tensor_of: TensorOf, shard_of: ShardOf | None = None) -> Any:
    """Return the tree that was split.

    Args:
        plain: what JSON knows of it.
        tensor_of: returns the tensor of a name. One without data will do, to ask for shapes.
        shard_of: returns what stands for a sharded tensor; None: there is none.

    Raises:
        NotPlain: it was not made by `split`.

    >>> join({"weight": {"$tensor": "weight"}}, {"weight": torch.ones(2)}.__getitem__)
    {'weight': tensor([1., 1.])}
    """
    return _Joining(tensor_of, shard_of).value(plain, 0)


def _who_holds(path: str) -> str:
    """Say who is to hold plain values at a path of what a run keeps, and how."""
    where = path.split(".")
    if path.startswith("state.user"):
        return "make the record an attrs or data class, or a dict, of"
    if path.startswith("state.parts."):
        return f"have the part {where[2]!r} of the state hold an attrs or data class, or a dict, of"
    if where[0] == "position":
        return "have get_state() or state_dict() of the data return"
    if where[0] == "engine":
        return "have what state_dict_user_keys of the engine names hold"
    if where[0] == "external" and len(where) > 1:
        return f"have the state_dict() of {where[1]!r} return"
    return "have it hold"


class _Splitting:
    def __init__(self, sharded: Tensors | None) -> None:
        self.tensors, self.sharded = Tensors(), sharded
        self._names: dict[object, str] = {}
        self._storages: set[object] = set()

    def value(self, value: Any, path: str, depth: int = 0) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if value.bit_length() <= _WIDEST else {"$int": hex(value)}
        if kind is str:
            return value if _is_unicode(value) else {"$str": value.encode(*_AS_IT_IS).hex()}
        if kind is float:
            return _float(value)
        if depth > _DEEPEST:
            raise NotPlain(
                f"{path} lies in more than {_DEEPEST} levels of lists and dicts; keep it flatter"
            )
        if isinstance(value, torch.Tensor):
            return self._shard(value, path) if is_sharded(value) else self._tensor(value, path)
        if kind is list:
            return self._list(value, path, depth)
        if kind in _LISTS:
            ordered = value if isinstance(value, tuple) else sorted(value, key=repr)
            return {_LISTS[kind]: self._list(ordered, path, depth)}
        if kind in _MAPS:
            return self._map(value, _MAPS[kind], path, depth)
        if kind is bytes:
            return {"$bytes": base64.b64encode(value).decode()}
        if kind is complex:
            return {"$complex": [_float(value.real), _float(value.imag)]}
        if kind is torch.dtype or kind is torch.device:
            return {f"${kind.__name__}": str(value).removeprefix("torch.")}
        if kind.__module__ == "numpy" and getattr(value, "dtype", None) is not None:
            return self._array(value, path)
        raise NotPlain(
            f"{path} is a {kind.__module__}.{kind.__qualname__}, which is no plain value; "
            f"{_who_holds(path)} numbers, strings, lists, dicts and tensors"
        )

    def _list(self, values: Iterable[Any], path: str, depth: int) -> list[Any]:
        return [
            self.value(value, _join(path, place), depth + 1) for place, value in enumerate(values)
        ]

    def _map(self, value: Mapping[Any, Any], word: str, path: str, depth: int) -> dict[str, Any]:
        if word == "$dict" and all(map(_is_key, value)):
            return {key: self.value(one, _join(path, key), depth + 1) for key, one in value.items()}
        pairs = [
            [
                self.value(key, f"{path} (a key)", depth + 1),
                self.value(one, _join(path, key), depth + 1),
            ]
            for key, one in value.items()
        ]
        made: dict[str, Any] = {word: pairs}
        versions = getattr(value, "_metadata", None)  # with which modules read older states
        if word == "$ordered" and versions is not None:
            made["$metadata"] = self.value(versions, _join(path, "_metadata"), depth + 1)
        return made

    def _tensor(self, tensor: torch.Tensor, path: str) -> dict[str, Any]:
        if (
            tensor.layout is not torch.strided
            or tensor.is_quantized
            or tensor.device.type == "meta"
        ):
            what = "quantized" if tensor.is_quantized else tensor.layout
            raise NotPlain(
                f"{path} is a tensor ({what}, on {tensor.device}) that cannot be written; keep a "
                "dense one, on a device that holds its numbers"
            )
        if reason := _why_not(tensor):
            raise NotPlain(f"{path} {reason}")
        tensor = tensor.detach().resolve_conj().resolve_neg().as_subclass(torch.Tensor)
        if tensor.dtype is torch.complex128:  # written as pairs of numbers
            return {"$pairs": self._tensor(torch.view_as_real(tensor), path)}
        storage = tensor.untyped_storage().data_ptr()
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        made: dict[str, Any] = {}
        if not tensor.is_contiguous() and _is_dense(tensor):
            made["stride"] = list(tensor.stride())
        if not tensor.numel() or place not in self._names:
            name = self._free_name(path, self.tensors)
            shares = bool(tensor.numel()) and (tensor.device, storage) in self._storages
            self.tensors[name] = tensor.clone() if shares else tensor
            if not tensor.is_contiguous():
                self.tensors[name] = tensor.contiguous()
            self._storages.add((tensor.device, storage))
            self._names[place] = name
        return {"$tensor": self._names[place], **made}

    def _shard(self, tensor: torch.Tensor, path: str) -> dict[str, Any]:
        if self.sharded is None:
            raise NotPlain(
                f"{path} is a sharded tensor, of which this process holds a part only; what keeps "
                "those is fengine.checkpoints.Checkpoints with Loop(step, ranks=ranks)"
            )
        name = self._free_name(path, self.sharded)
        self.sharded[name] = tensor.detach()
        dtype = str(tensor.dtype).removeprefix("torch.")
        return {"$shard": name, "dtype": dtype, "shape": list(tensor.shape)}

    def _free_name(self, path: str, taken: Tensors) -> str:
        path = path.encode("utf-8", "replace").decode()
        name, number = path, 1
        while name in taken:
            number += 1
            name = f"{path}#{number}"
        return name

    def _array(self, value: Any, path: str) -> dict[str, Any]:
        if value.dtype.kind not in _ARRAYS or not value.dtype.isnative:
            raise NotPlain(f"{path} is a numpy array of dtype {value.dtype}, which is no number")
        content = (
            torch.frombuffer(bytearray(value.tobytes()), dtype=torch.uint8) if value.size else None
        )
        made = {"dtype": value.dtype.str, "shape": list(value.shape)}
        if type(value).__name__ != "ndarray":
            return {"$number": base64.b64encode(value.tobytes()).decode(), "dtype": value.dtype.str}
        return {"$array": None if content is None else self._tensor(content, path), **made}


class _Joining:
    def __init__(self, tensor_of: TensorOf, shard_of: ShardOf | None) -> None:
        self._tensor_of, self._shard_of = tensor_of, shard_of
        self._known: dict[tuple[str, object], torch.Tensor] = {}

    def value(self, plain: Any, depth: int) -> Any:
        if depth > 2 * _DEEPEST:
            raise NotPlain(f"it is deeper than {_DEEPEST} levels")
        if isinstance(plain, list):
            return [self.value(one, depth + 1) for one in plain]
        if not isinstance(plain, dict):
            return plain
        word = next(iter(plain), "")
        if word[:1] != _MARK:
            return {key: self.value(one, depth + 1) for key, one in plain.items()}
        try:
            return self._marked(word, plain[word], plain, depth)
        except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            if isinstance(error, NotPlain):
                raise
            raise NotPlain(f"{word} does not stand for a value: {error!r}") from error

    def _marked(self, word: str, content: Any, plain: dict[str, Any], depth: int) -> Any:
        if word == "$tensor":
            return self._tensor(content, plain.get("stride"))
        if word == "$shard" and self._shard_of is not None:
            dtype = getattr(torch, plain["dtype"])
            if dtype in _DTYPES:
                return self._shard_of(content, dtype, torch.Size(plain["shape"]))
        if word in _LISTS.values():
            return _MADE[word](self.value(one, depth + 1) for one in content)
        if word in _MAPS.values():
            pairs = [
                (self.value(key, depth + 1), self.value(one, depth + 1)) for key, one in content
            ]
            made = _MADE[word](dict(pairs) if word == "$counter" else pairs)
            if "$metadata" in plain:
                made._metadata = self.value(plain["$metadata"], depth + 1)
            return made
        if word == "$pairs":
            return torch.view_as_complex(self.value(content, depth))
        if word == "$int":
            return int(content, 16)
        if word == "$str":
            return bytes.fromhex(content).decode(*_AS_IT_IS)
        if word == "$float":
            bits = _FLOATS.get(content) or bytes.fromhex(content)
            return struct.unpack(">d", bits)[0]
        if word == "$bytes":
            return base64.b64decode(content, validate=True)
        if word == "$complex":
            return complex(*(self.value(one, depth + 1) for one in content))
        if word == "$dtype" and isinstance(found := getattr(torch, content), torch.dtype):
            return found
        if word == "$device":
            return torch.device(content)
        if word in ("$array", "$number"):
            return self._array(word, content, plain)
        raise NotPlain(f"{word} stands for nothing that is known")

    def _tensor(self, name: str, stride: object) -> torch.Tensor:
        place = (name, tuple(stride) if isinstance(stride, list) else None)
        if place not in self._known:
            tensor = self._tensor_of(name)
            if isinstance(stride, list):
                laid = torch.empty_strided(
                    tensor.shape, stride, dtype=tensor.dtype, device=tensor.device
                )
                tensor = laid.copy_(tensor)
            self._known[place] = tensor
        return self._known[place]

    def _array(self, word: str, content: Any, plain: dict[str, Any]) -> Any:
        import numpy as np

        dtype = np.dtype(plain["dtype"])
        if dtype.kind not in _ARRAYS:
            raise NotPlain(f"a numpy array of dtype {dtype} is no number")
        if word == "$number":
            return np.frombuffer(base64.b64decode(content, validate=True), dtype)[0]
        if content is None:
            return np.zeros(plain["shape"], dtype)
        tensor = self.value(content, 0)
        if tensor.device.type == "meta":
            return np.zeros(plain["shape"], dtype)
        return tensor.numpy().copy().view(dtype).reshape(plain["shape"])


_FLOATS: Final = {
    str(one): struct.pack(">d", one) for one in (math.nan, math.inf, -math.inf)
}  # of a NaN with other bits the bits are written


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)


def _is_key(key: object) -> bool:
    return type(key) is str and key[:1] != _MARK and _is_unicode(key)


def _why_not(tensor: torch.Tensor) -> str | None:
    if is_lazy(tensor):
        return "is a parameter without a shape yet; run the model once before it is kept"
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return f"is a {type(tensor).__qualname__}, which is no plain tensor"
    if tensor.dtype not in _DTYPES:
        return f"is a tensor of {tensor.dtype}, which cannot be written"
    if tensor.numel() and not tensor.data_ptr():
        return "is a tensor whose memory has been freed"
    return None


def _has_shards(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_shards, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_shards, value))
    return is_sharded(value)


def _is_dense(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor fills its memory, in whatever order of its dimensions."""
    filled = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride != filled:
            return False
        filled *= size
    return True


def _float(value: float) -> Any:
    if math.isfinite(value):
        return value
    bits = struct.pack(">d", value)
    return {"$float": str(value) if _FLOATS.get(str(value)) == bits else bits.hex()}


def _join(path: str, key: object) -> str:
    shown = hex(key) if type(key) is int and key.bit_length() > _WIDEST else str(key)
    return f"{path}.{shown}" if path else shown
