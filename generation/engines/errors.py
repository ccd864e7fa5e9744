"""What can go wrong in an engine.

EngineError
├── ModelUnavailable       the model cannot be loaded, or does not make images
├── UnsupportedParameter   the model's pipeline does not take this request
├── OutOfMemory            the request or the model does not fit into the device's memory
├── UnusableState          the saved state is not one of this request
├── InvalidOutput          the model gave pixels that are not numbers
└── DeviceLost             the device answers no more; its process has to be restarted
"""

from __future__ import annotations

from typing import ClassVar


class EngineError(Exception):
    """An expected failure; `code` is for programs, the message tells people what to do."""

    code: ClassVar[str]


class ModelUnavailable(EngineError):
    """Not there, not safetensors, in need of code of its own, or no text-to-image pipeline."""

    code = "model_unavailable"


class UnsupportedParameter(EngineError):
    """The pipeline has no such parameter, or refuses this value of it."""

    code = "unsupported_parameter"


class OutOfMemory(EngineError):
    """Memory ran out while loading or generating; what the call held is freed, and the device works on."""

    code = "out_of_memory"

    def __init__(self, message: str, *, peak_memory_bytes: int | None = None) -> None:
        super().__init__(message)
        self.peak_memory_bytes = peak_memory_bytes


class UnusableState(EngineError):
    """A saved state cannot be read, or is that of another request; without it the request is as good as ever."""

    code = "unusable_state"


class InvalidOutput(EngineError):
    """The decoded image holds NaN or infinity."""

    code = "invalid_output"


class DeviceLost(EngineError):
    """The device is missing, or a CUDA error has left its context unusable for the rest of the process."""

    code = "device_lost"
