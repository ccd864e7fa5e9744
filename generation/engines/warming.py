"""Fills PyTorch's cache of compiled code in a process of its own: compiling would slow every thread of a worker down.

Run as `python -m generation.engines.warming FILE`, by `compiling`. What that compiles afterwards is found in the cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from generation.engines.rows import Call

MOST_SECONDS = 900
PATIENCE = 19  # the lowest priority: whoever draws comes first


def warm(call: Call, *, device: torch.device) -> None:
    """Compile the call's function for its shapes in another process, on the same device, and wait for that.

    Raises RuntimeError if that process fails. It holds a copy of the module's weights meanwhile.
    """
    function = call.layout.callee.function
    module: Any = getattr(function, "__self__", function)
    job = {
        "class_name": type(module).__name__,
        "folder": module.config._name_or_path,
        "method": "" if module is function else function.__name__,
        "dtype": module.dtype,
        "device": str(device),
        "arguments": call.arguments(),
    }
    with tempfile.TemporaryDirectory(prefix="pictor-warming-") as folder:
        file = Path(folder) / "job"
        torch.save(job, file)
        command = [sys.executable, "-m", "generation.engines.warming", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or f"its compilation ended with {done.returncode}")


def main(file: str) -> None:
    """Compile what the file says."""
    os.nice(PATIENCE)
    import diffusers

    job = torch.load(file, weights_only=True)
    module = getattr(diffusers, job["class_name"]).from_pretrained(
        job["folder"], dtype=job["dtype"], use_safetensors=True, local_files_only=True
    )
    module = module.to(job["device"]).eval()
    function = getattr(module, job["method"]) if job["method"] else module
    with torch.no_grad():
        torch.compile(function, dynamic=False)(**job["arguments"])


if __name__ == "__main__":
    main(sys.argv[1])
