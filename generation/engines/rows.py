"""Calls of a module taken apart into rows, so that the rows of several calls can share one forward.

A row is what the module computes for one index of its batch dimension. Two calls may share a forward if their keys
are equal: the same module, the same shapes and dtypes of a row, and the same values of everything that is not a row.
What is a row is told by the module's signature: the first parameter has one entry per row, and so has every
other tensor, unless it is one of the few that are known to be shared.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from generation.engines.callee import Callee, Company

# Positions depend on the size of the picture and not on the picture: one tensor for all rows, whatever its shape.
_SHARED = frozenset({"img_ids", "txt_ids", "image_rotary_emb"})
_TIMESTEPS = frozenset({"timestep", "timesteps", "t"})

Rows = torch.Tensor | list[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the arguments of a call are put together again from its leaves; `trees` has one entry per argument."""

    callee: Callee
    company: Company
    trees: tuple[tuple[str, pytree.TreeSpec], ...]
    is_row: tuple[bool, ...]
    takes_lists: bool


class Key(NamedTuple):
    """What calls that share a forward have alike."""

    callee: str
    company: Company
    trees: tuple[tuple[str, pytree.TreeSpec], ...]
    is_row: tuple[bool, ...]
    entries: tuple[Hashable, ...]
    common: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `count` rows, and what they have in common.

    Each entry of `rows` is a tensor (count, ...) or a list of `count` tensors. A call that could not be taken
    apart has none, and runs alone.
    """

    layout: Layout
    key: Hashable  # a Key, unless it is shared with nobody
    count: int
    rows: tuple[Rows, ...]
    common: tuple[Any, ...]

    @property
    def can_share(self) -> bool:
        """Whether it was taken apart."""
        return bool(self.rows)

    @property
    def most_rows(self) -> int | None:
        """How many rows should share a forward with these, if that is known."""
        match self.layout.company:
            case Company.ANY:
                return self.layout.callee.limits.of(self)
            case Company.FIXED:
                return self.layout.callee.fixed_count
            case Company.NONE:
                return self.count

    @property
    def shape(self) -> str:
        """The shapes of a row, to remember by what was measured with calls like this one."""
        shapes = [rows.shape[1:] if isinstance(rows, torch.Tensor) else rows[0].shape[1:] for rows in self.rows]
        return f"{self.layout.callee.name} " + " ".join("x".join(map(str, shape)) for shape in shapes if shape)

    def arguments(self) -> dict[str, Any]:
        """What the function is called with, by the names of its parameters."""
        rows, common = iter(self.rows), iter(self.common)
        leaves = iter([next(rows) if is_row else next(common) for is_row in self.layout.is_row])
        return {
            name: pytree.tree_unflatten([next(leaves) for _ in range(tree.num_leaves)], tree)
            for name, tree in self.layout.trees
        }

    def run(self) -> Any:
        """Make the call."""
        callee = self.layout.callee
        bound = inspect.BoundArguments(callee.signature, self.arguments())
        return callee.function(*bound.args, **bound.kwargs)

    def to(self, function: Callable[..., Any]) -> Call:
        """The same call of another function, which takes the same arguments."""
        return replace(self, layout=replace(self.layout, callee=replace(self.layout.callee, function=function)))

    def part(self, start: int, stop: int) -> Call:
        """The rows from `start` up to `stop`."""
        return replace(self, count=stop - start, rows=tuple(rows[start:stop] for rows in self.rows))

    def padded(self, count: int) -> Call:
        """At least `count` rows: the last one is repeated."""
        last = self.part(self.count - 1, self.count)
        return merge([self, *[last] * max(0, count - self.count)])


def merge(calls: Sequence[Call]) -> Call:
    """One call with the rows of all, in their order; their keys must be equal."""
    if len(calls) == 1:
        return calls[0]
    rows = tuple(_concatenate(parts) for parts in zip(*(call.rows for call in calls), strict=True))
    return replace(calls[0], count=sum(call.count for call in calls), rows=rows)


def split(output: Any, *, among: Sequence[Call]) -> list[Any]:
    """What each of the calls gets of the output of their merged call; rows beyond theirs are dropped.

    Raises ValueError if the output does not hold one row for each of the input.
    """
    if not among[0].can_share:
        return [output]
    leaves, tree = _flatten(output, lists=among[0].layout.takes_lists)
    total = sum(call.count for call in among)
    if any(_holds_rows(leaf) and len(leaf) < total for leaf in leaves):
        raise ValueError(f"The module gave fewer than {total} rows for {total}.")
    parts, start = [], 0
    for call in among:
        stop = start + call.count
        mine = [leaf[start:stop] if _holds_rows(leaf) else leaf for leaf in leaves]
        parts.append(pytree.tree_unflatten(mine, tree))
        start = stop
    return parts


def join(outputs: Sequence[Any], *, lists: bool) -> Any:
    """The outputs of consecutive parts of a call as one."""
    if len(outputs) == 1:
        return outputs[0]
    flat = [_flatten(output, lists=lists) for output in outputs]
    columns = zip(*(leaves for leaves, _ in flat), strict=True)
    joined = [_concatenate(column) if _holds_rows(column[0]) else column[0] for column in columns]
    return pytree.tree_unflatten(joined, flat[0][1])


def tensors(output: Any) -> list[torch.Tensor]:
    """Every tensor in an output."""
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]


class Disassembler:
    """Takes calls apart; it belongs to one generation, whose shared tensors it reads only once.

    Rows of another shape than was `examined`, if that is known, go alone instead of in a fixed number: nobody has
    looked whether they keep their bits there.
    """

    def __init__(self, callee: Callee, *, company: Company = Company.ANY, examined: str = "") -> None:
        self._callee = callee
        self._company = company
        self._examined = examined
        self._digests: dict[int, tuple[torch.Tensor, str]] = {}

    def take_apart(self, *args: Any, **kwargs: Any) -> Call:
        """The call with these arguments."""
        arguments = self._bind(*args, **kwargs)
        first = next(iter(arguments.values()), None)
        lists, device = _is_list(first), next((tensor.device for tensor in tensors(first)), None)
        count = len(first) if isinstance(first, (torch.Tensor, list)) and _holds_rows(first) else 0
        trees: list[tuple[str, pytree.TreeSpec]] = []
        leaves: list[Any] = []
        rows: list[Rows | str | None] = []
        for name, value in arguments.items():
            of_argument, tree = _flatten(value, lists=lists)
            trees.append((name, tree))
            leaves += of_argument
            rows += [_as_rows(leaf, count=count, name=name, device=device) for leaf in of_argument]
        is_row = tuple(part is not None for part in rows)
        common = [leaf for leaf, part in zip(leaves, rows, strict=True) if part is None]
        entries = [_entry(part) for part in rows if part is not None]
        if self._company is Company.FIXED:
            entries += [_length(part) for part in rows if isinstance(part, list)]
        identities = [self._identity(leaf) for leaf in common]
        if not count or any(part is _INDIVISIBLE for part in [*rows, *identities]):
            return self.keep_whole(*args, **kwargs)
        layout = self._layout(trees, is_row=is_row, lists=lists)
        key = Key(self._callee.name, self._company, layout.trees, is_row, tuple(entries), tuple(identities))
        parts = tuple(part for part in rows if not isinstance(part, str | None))
        call = Call(layout, key, count, parts, tuple(common))
        if self._company is Company.FIXED and self._examined not in ("", call.shape):
            self._company = Company.NONE
            return self.take_apart(*args, **kwargs)
        return call

    def keep_whole(self, *args: Any, **kwargs: Any) -> Call:
        """The call with these arguments, to run alone."""
        flat = [(name, *_flatten(value, lists=False)) for name, value in self._bind(*args, **kwargs).items()]
        leaves = [leaf for _, of_argument, _ in flat for leaf in of_argument]
        layout = self._layout([(name, tree) for name, _, tree in flat], is_row=(False,) * len(leaves))
        return Call(layout, object(), 1, (), tuple(leaves))

    def _bind(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The arguments that say something: pipelines of one model differ in which empty ones they pass."""
        given = self._callee.signature.bind(*args, **kwargs).arguments
        defaults = {name: parameter.default for name, parameter in self._callee.signature.parameters.items()}
        return {name: value for name, value in given.items() if defaults[name] is not None or not _is_empty(value)}

    def _layout(
        self, trees: list[tuple[str, pytree.TreeSpec]], *, is_row: tuple[bool, ...], lists: bool = False
    ) -> Layout:
        return Layout(self._callee, self._company, tuple(trees), is_row, lists)

    def _identity(self, leaf: Any) -> Hashable:
        """What has to be equal: the value itself, or a digest of a tensor's bytes."""
        if isinstance(leaf, torch.Tensor):
            if id(leaf) not in self._digests:
                content = leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
                # Holding the tensor keeps its id from being used again.
                self._digests[id(leaf)] = leaf, hashlib.sha256(content).hexdigest()
            return tuple(leaf.shape), leaf.dtype, self._digests[id(leaf)][1]
        try:
            hash(leaf)
        except TypeError:
            return _INDIVISIBLE
        return type(leaf), leaf


_INDIVISIBLE = "indivisible"


def _as_rows(leaf: Any, *, count: int, name: str, device: torch.device | None) -> Rows | str | None:
    """The leaf with one entry per row, or None if it is common to all, or _INDIVISIBLE."""
    if _is_list(leaf):
        return leaf if len(leaf) == count else _INDIVISIBLE
    if name in _TIMESTEPS and isinstance(leaf, (int, float)):
        leaf = torch.tensor(float(leaf))
    if not isinstance(leaf, torch.Tensor) or name in _SHARED:
        return None
    if name in _TIMESTEPS and not leaf.is_floating_point():
        leaf = leaf.float()  # as every time embedding begins; schedulers with whole timesteps can share with others
    if leaf.ndim == 0 or (leaf.ndim == 1 and len(leaf) == 1):
        # A module itself moves numbers, but not tensors of one axis. To wait for the copy is to wait for the device.
        return leaf.reshape(1).to(device, non_blocking=True).expand(count)
    return leaf if len(leaf) == count else _INDIVISIBLE


def _entry(part: Rows | str) -> Hashable:
    """What rows must have alike: their shape, but for the length of a list's entries, which may differ."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return "list", part[0].dtype, part[0].device, part[0].ndim, tuple(part[0].shape[1:])
    return part.dtype, part.device, tuple(part.shape[1:])


def _length(entries: list[torch.Tensor]) -> Hashable:
    """What else must be alike where bits may not depend on the company: the one length of all entries.

    A module pads entries to the longest, and its kernels depend on the sum; calls of mixed lengths share with none.
    """
    lengths = {len(entry) for entry in entries}
    return lengths.pop() if len(lengths) == 1 else object()


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and not value)


def _flatten(value: Any, *, lists: bool) -> tuple[list[Any], pytree.TreeSpec]:
    return pytree.tree_flatten(value, is_leaf=_is_list if lists else None)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, torch.Tensor) for entry in value)


def _holds_rows(value: Any) -> bool:
    return _is_list(value) or (isinstance(value, torch.Tensor) and value.ndim > 0)


def _concatenate(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], list):
        return [entry for part in parts for entry in part]
    return torch.cat(list(parts))
