"""What happens once, when a model is first loaded on a kind of device: is it safe to batch, and how far does it pay?"""

from __future__ import annotations

import copy
import hashlib
import logging
from pathlib import Path
from typing import Any

import diffusers
import torch

from generation.engines import device as devices
from generation.engines.batching import Batcher
from generation.engines.equivalence import Verdict, judge
from generation.engines.errors import DeviceLost
from generation.engines.forwards import Forwards
from generation.engines.loaded_model import LoadedModel
from generation.engines.notebook import Notebook
from generation.engines.rows import Call, Disassembler
from generation.engines.standins import StandIn
from generation.engines.types import ModelSource

logger = logging.getLogger(__name__)

STEPS = 4
SHORT = "There was no memory for the rows of two generations in one forward; it is examined again at the next start."


def identify(source: ModelSource, *, folder: Path, compiles: bool) -> str:
    """A name that changes with whatever could change what is measured: weights, dtype and layout, the libraries."""
    weights = sorted(
        (file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in folder.rglob("*.safetensors")
    )
    facts = (source, compiles, torch.__version__, diffusers.__version__, weights)
    return f"{source.slug} {hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"


def examine(model: LoadedModel, *, batcher: Batcher, forwards: Forwards, notebook: Notebook) -> None:
    """Give the model its verdict, and measure its knee at its default size, unless the notebook knows both."""
    name = f"verdict on {model.name}"
    if (known := Verdict.from_json(notebook.get(name))) is not None:
        model.verdict = known
        return
    try:
        calls = (
            _call_at(model, batcher=batcher, prompt="a red apple", at_step=1),
            _call_at(model, batcher=batcher, prompt="an old harbour", at_step=2),
        )
        model.knees.forget_shortage(calls[0])  # it may be over
        model.verdict = batcher.run_alone(lambda: judge(calls, run=forwards))
        if model.verdict.can_share:
            batcher.run_alone(lambda: model.knees.measure(calls[0], seconds_of=forwards.seconds_of))
        most_compared = max(calls[0].count + calls[1].count, model.fixed_count)
        is_short = model.verdict.can_share and not model.knees.may_hold(calls[0], most_compared)
        if is_short:  # the forwards that were to be compared were made in parts, which proves nothing
            single = (calls[0].part(0, 1), calls[1].part(0, 1))
            verdict = batcher.run_alone(lambda: judge(single, run=forwards))
            can_share = verdict.can_share and model.knees.may_hold(calls[0], 2)
            reason = SHORT if verdict.can_share else verdict.reason
            model.verdict = Verdict(can_share, reason=reason, rows=calls[0].count)
    except DeviceLost:
        raise
    except Exception as error:  # a model that cannot even be examined may still work alone, and is tried again
        if isinstance(fault := devices.fault(error, device=model.device), DeviceLost):
            raise fault from error
        logger.warning("%s runs unbatched, as its examination failed.", model.source.slug, exc_info=True)
        model.verdict = Verdict(False, reason=f"Its examination failed: {type(error).__name__}: {error}")
        return
    if not model.verdict.can_share:
        logger.warning("%s runs unbatched: %s", model.source.slug, model.verdict.reason)
    if not is_short:
        notebook.put(name, model.verdict.as_json())


class _Seen(Exception):
    """Ends a pipeline call whose denoiser has been asked what there was to see."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call


class _Witness(StandIn):
    """A denoiser that works until it is asked for the given time, and then tells what it was asked."""

    def __init__(self, part: Any, *, calls: Disassembler, batcher: Batcher, at_step: int) -> None:
        super().__init__(part)
        self._calls = calls
        self._batcher = batcher
        self._steps_left = at_step

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The denoiser's output. Raises _Seen at the last step of interest."""
        call = self._calls.take_apart(*args, **kwargs)
        self._steps_left -= 1
        if self._steps_left == 0:
            raise _Seen(call)
        return self._batcher.run(call)


def _call_at(model: LoadedModel, *, batcher: Batcher, prompt: str, at_step: int) -> Call:
    """What the pipeline asks of its denoiser at that step, for a picture of the model's usual size."""
    pipe = copy.copy(model.pipe)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    for name, callee in model.denoisers.items():
        calls = Disassembler(callee)
        vars(pipe)[name] = _Witness(callee.function, calls=calls, batcher=batcher, at_step=at_step)
    try:
        pipe(prompt=prompt, num_inference_steps=STEPS, generator=torch.Generator("cpu").manual_seed(at_step))
    except _Seen as seen:
        return seen.call
    raise RuntimeError("the pipeline never asked a UNet or transformer for anything")
