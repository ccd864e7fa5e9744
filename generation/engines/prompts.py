"""Prompts are encoded one at a time, and what was encoded lately is remembered."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import torch
from accelerate import cpu_offload_with_hook
from accelerate.hooks import UserCpuOffloadHook

MOST_PROMPTS = 64

Run = Callable[[Callable[[], Any]], Any]


class PromptEncoder:
    """A pipeline's `encode_prompt`, one call at a time, with what it gave lately remembered.

    Tokenizers keep state while they work, so two threads may never use one at once.
    """

    def __init__(self, *, most: int = MOST_PROMPTS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._hooks: list[UserCpuOffloadHook] = []
        self._remembered: OrderedDict[Hashable, Any] = OrderedDict()

    def keep_in_main_memory(self, encoders: Sequence[torch.nn.Module], *, device: torch.device) -> None:
        """From now on these are on the device only while they encode."""
        with self._lock:
            self._hooks = [cpu_offload_with_hook(encoder, device)[1] for encoder in encoders]

    def encoding_with(self, encode_prompt: Callable[..., Any], *, run: Run = operator.call) -> Callable[..., Any]:
        """What takes the place of the method of one generation's pipeline."""

        def encode(*args: Any, **kwargs: Any) -> Any:
            key = _as_key((encode_prompt.__qualname__, args, kwargs))  # a model's pipelines may encode in several ways
            with self._lock:
                if key is not None and key in self._remembered:
                    self._remembered.move_to_end(key)
                    return self._remembered[key]
                try:
                    encoded = run(partial(encode_prompt, *args, **kwargs))
                finally:
                    for hook in self._hooks:
                        hook.offload()
                if key is not None:
                    self._remembered[key] = encoded
                    while len(self._remembered) > self._most:
                        self._remembered.popitem(last=False)
                return encoded

        return encode


def _as_key(value: Any) -> Hashable | None:
    """Something hashable that is equal for equal arguments; None for arguments like tensors."""
    if isinstance(value, (list, tuple)):
        entries = tuple(_as_key(entry) for entry in value)
        return None if None in entries else (type(value), entries)
    if isinstance(value, dict):
        return _as_key(tuple(sorted(value.items())))
    return ("value", value) if value is None or isinstance(value, (str, int, float, bool, torch.device)) else None
