"""A diffusers pipeline from a model's source, without ever running code or pickles that come with a model."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging

from generation.engines.device import fault
from generation.engines.errors import ModelUnavailable
from generation.engines.types import ModelSource, Pipeline

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_PICKLES = {".bin", ".pt", ".pth", ".ckpt"}


def load_pipeline(source: ModelSource, *, device: str) -> Pipeline:
    """The model's pipeline on the device, without progress bars.

    dtype "auto" is bfloat16 on a GPU and float32 on a CPU. A hub id is looked up in the local Hugging Face
    cache; it is downloaded only where the environment says HF_HUB_OFFLINE=0. Raises ModelUnavailable, or
    OutOfMemory or DeviceLost where the device failed.

    No pipeline may run meanwhile: diffusers and transformers change torch's default dtype while they load.
    """
    dtype = _dtype(source, device=device)
    diffusers_logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    default_dtype = torch.get_default_dtype()
    try:
        pipe = _from_folder(_find_folder(source), source=source, dtype=dtype).to(device)
    except ModelUnavailable:
        raise
    except Exception as error:
        raise fault(error, device=torch.device(device)) or ModelUnavailable(
            f"diffusers cannot load {source.source}: {error} Check that the model is complete, and that this "
            "version of diffusers knows its classes."
        ) from error
    finally:
        torch.set_default_dtype(default_dtype)  # which diffusers forgets when loading fails
    if "prompt" not in inspect.signature(pipe.__call__).parameters:
        raise ModelUnavailable(
            f"{source.source} is a {type(pipe).__name__}, which takes no prompt. Serve a text-to-image model."
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _dtype(source: ModelSource, *, device: str) -> torch.dtype:
    if source.dtype == "auto":
        return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    if source.dtype not in _DTYPES:
        raise ModelUnavailable(f"{source.slug} has dtype {source.dtype!r}. Use auto or {', '.join(_DTYPES)}.")
    return _DTYPES[source.dtype]


def _find_folder(source: ModelSource) -> Path:
    """The local folder itself, or the snapshot of a hub id in the local cache."""
    if Path(source.source).is_dir():
        return Path(source.source)
    may_download = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"0", "NO", "FALSE", "OFF"}
    try:
        snapshot = DiffusionPipeline.download(
            source.source, revision=source.revision, use_safetensors=True, local_files_only=not may_download
        )
    except Exception as error:
        revision = f" --revision {source.revision}" if source.revision else ""
        raise ModelUnavailable(
            f"{source.source} is neither a folder on this machine nor complete in its Hugging Face cache. "
            f"Correct the path, or run `hf download {source.source}{revision}` here, or start the worker with "
            f"HF_HUB_OFFLINE=0 to have it downloaded. ({error})"
        ) from error
    return Path(snapshot)


def _from_folder(folder: Path, *, source: ModelSource, dtype: torch.dtype) -> Any:
    """The pipeline in main memory, after a look at what from_pretrained would refuse less clearly."""
    index_file = folder / "model_index.json"
    if not index_file.is_file():
        raise ModelUnavailable(
            f"{source.source} has no model_index.json. Give the folder of a whole model in diffusers format, "
            "as DiffusionPipeline.save_pretrained writes it."
        )
    index = json.loads(index_file.read_text())
    libraries = {name: value[0] for name, value in index.items() if isinstance(value, list) and value[0]}
    own_code = [name for name, library in libraries.items() if (folder / name / f"{library}.py").is_file()]
    if own_code or "_class_name" in libraries:
        raise ModelUnavailable(
            f"{source.source} needs Python code of its own, which is never run here. Use a model whose "
            "pipeline is part of diffusers."
        )
    pickles = [name for name in libraries if _has_only_pickles(folder / name)]
    if pickles:
        raise ModelUnavailable(
            f"{source.source} keeps the weights of {', '.join(pickles)} in pickles, which can hide code. "
            "Use a copy in safetensors, or make one with DiffusionPipeline.save_pretrained."
        )
    return DiffusionPipeline.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)


def _has_only_pickles(component: Path) -> bool:
    suffixes = {file.suffix for file in component.glob("*")}
    return bool(suffixes & _PICKLES) and ".safetensors" not in suffixes
