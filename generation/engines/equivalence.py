"""The gate: whether a model on this kind of device gives in company what it gives alone.

Nobody promises that a denoiser treats each row of a batch by itself. So before a model's forwards are shared, two
calls of its own pipeline are made alone and together, and the outputs compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from generation.engines import device as devices
from generation.engines import rows
from generation.engines.callee import Company
from generation.engines.rows import Call

# The relative error that other kernels and another order of summation explain. A row that got something of
# its neighbours is wrong by far more.
TOLERANCES = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 8e-2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether forwards may be shared, in which company rows keep their very bits (if in any), and why if not.

    `rows` is how many a generation of one image usually has, and `shape` that of the rows that were looked at.
    """

    can_share: bool
    reproducible_in: Company | None = None
    reason: str = ""
    rows: int = 1
    shape: str = ""

    def as_json(self) -> dict[str, Any]:
        """The verdict for a notebook."""
        company = self.reproducible_in.name if self.reproducible_in else None
        return {**asdict(self), "reproducible_in": company}

    @classmethod
    def from_json(cls, noted: Any) -> Verdict | None:
        """The verdict that a notebook holds; None if it holds none, or that of another version."""
        try:
            company = noted["reproducible_in"]
            verdict = cls(**{**noted, "reproducible_in": Company[company] if company else None})
        except (TypeError, KeyError):
            return None
        return verdict if verdict.as_json() == noted else None


def judge(calls: tuple[Call, Call], *, run: Callable[[Call], Any]) -> Verdict:
    """Compare two calls of the denoiser, made alone, with the same two in one forward."""
    first, second = calls
    if not first.can_share or first.key != second.key:
        return Verdict(False, reason="Its denoiser takes arguments that cannot be merged with those of another call.")
    alone = [rows.split(run(call), among=[call])[0] for call in calls]
    try:
        together = rows.split(run(rows.merge(calls)), among=calls)
    except Exception as error:  # whatever it is: this model works alone and not in company
        if devices.is_out_of_memory(error):
            raise  # there may be more of it the next time
        return Verdict(False, reason=f"Its denoiser fails with rows of two generations: {error}")
    for here, there in zip(alone, together, strict=True):
        difference = relative_error(here, there)
        if not difference <= tolerated_error(here):  # NaN is not
            reason = f"In company its output differs by {difference:.1e}; {tolerated_error(here):.0e} is tolerated."
            return Verdict(False, reason=reason)
    count = first.layout.callee.fixed_count
    if _keeps_its_bits(first.part(0, 1), among=[second.part(0, 1)] * (count - 1), run=run):
        return Verdict(True, Company.FIXED, rows=first.count, shape=first.shape)
    if _keeps_its_bits(first, among=[], run=run):
        return Verdict(True, Company.NONE, "The last bits of a row depend on its place in the batch.", first.count)
    return Verdict(True, None, "Its denoiser gives other bits each time that it is called.", first.count)


def tolerated_error(output: Any) -> float:
    """How large the relative error of this output may be, by its dtype."""
    return TOLERANCES.get(rows.tensors(output)[0].dtype, 0.0)


def relative_error(one: Any, other: Any) -> float:
    """The norm of the difference by the norm of the first, over all tensors of an output."""
    difference = norm = 0.0
    for here, there in zip(rows.tensors(one), rows.tensors(other), strict=True):
        difference += float((here.double() - there.double()).square().sum())
        norm += float(here.double().square().sum())
    return (difference / norm) ** 0.5 if norm else difference


def _keeps_its_bits(call: Call, *, among: list[Call], run: Callable[[Call], Any]) -> bool:
    """Whether a call gives the same first and last in a batch, and each of the times that one is run."""
    first = [rows.split(run(rows.merge([call, *among])), among=[call])[0] for _ in range(3)]
    last = [rows.split(run(rows.merge([*among, call])), among=[*among, call])[-1] for _ in range(3)]
    return all(
        torch.equal(here, there)
        for output in [*first, *last]
        for here, there in zip(rows.tensors(first[0]), rows.tensors(output), strict=True)
    )
