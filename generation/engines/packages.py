"""A forward compiled ahead of time into a package on disk, in a process of its own, and loaded from there.

What torch.compile does at the first call is done for a minute or more in Python, which would slow every thread of a
worker down; a package is only loaded, and after the next start too. It serves any number of rows, and it
holds no weights: it computes with those of the module.
https://docs.pytorch.org/docs/stable/user_guide/torch_compiler/torch.compiler_aot_inductor.html

Run as `python -m generation.engines.packages FILE`, by `build`.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from generation.engines import device as devices
from generation.engines.rows import Call

NICENESS = 19  # the lowest priority: whoever draws comes first
MOST_SECONDS = 1800
LOOK_AGAIN_SECONDS = 0.5
MOST_ROWS = 32
BUILDING = "building-"  # what folders are called in which packages are made
MOST_DEATHS = 2  # of processes that loaded a package: a first one may have been killed for another reason
SPARE_BYTES = 4 * 2**30  # what a forward and its compilation take beside the weights

# All that this process has loaded, for ever: CUDA graphs go on replaying their kernels, which PyTorch from 2.13 on
# unloads with a package that nobody refers to. https://github.com/pytorch/pytorch/pull/184860
_loaded: list[Callable[..., Any]] = []

SETTINGS = {
    "aot_inductor.package_constants_in_so": False,
    "always_keep_tensor_constants": True,  # even small ones are the module's own
    # Convolutions in the layout of the tensor cores. PyTorch chooses that by itself only where all sizes are known.
    # https://github.com/pytorch/pytorch/issues/102670
    "force_layout_optimization": True,
}


def path_of(call: Call, *, device: torch.device, folder: Path) -> Path:
    """Where the package of calls like this one lies; the callee's name tells the weights and the libraries."""
    facts = f"{devices.describe(device).name} {call.shape} {call.count == 1} {call.layout.trees} {SETTINGS}"
    return folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.pt2"


def build(call: Call, *, device: torch.device, file: Path, is_wanted: Callable[[], bool]) -> None:
    """Compile the call's function into the file, in a process that holds a copy of the weights meanwhile.

    A call of one row is compiled for one row, any other for 2 to MOST_ROWS. If a worker of another device is at the
    same, its package is waited for. Raises RuntimeError if that fails, cannot be expected to succeed, or is not wanted
    any more.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    _clear_away(file.parent)
    with _alone(file, is_wanted=is_wanted):
        if not file.exists():
            _build(call, device=device, file=file, is_wanted=is_wanted)


def _clear_away(folder: Path) -> None:
    """Remove what builds have left behind whose process was killed."""
    for left in folder.glob(f"{BUILDING}*"):
        with suppress(OSError):  # it has just gone
            if time.time() - left.stat().st_mtime > 2 * MOST_SECONDS:
                shutil.rmtree(left)


def _build(call: Call, *, device: torch.device, file: Path, is_wanted: Callable[[], bool]) -> None:
    function = call.layout.callee.function
    module = module_of(function)
    _check_means(module, device=device)
    bound = inspect.BoundArguments(call.layout.callee.signature, call.arguments())
    with tempfile.TemporaryDirectory(prefix=BUILDING, dir=file.parent) as name:
        draft, job = Path(name) / "draft.pt2", Path(name) / "job"
        config: Any = module.config
        torch.save(
            {
                "class_name": type(module).__name__,
                "folder": str(config._name_or_path),
                "method": "forward" if module is function else function.__name__,
                "dtype": next(module.parameters()).dtype,
                "device": str(device),
                "rows": list(call.rows),  # the very tensors that are among the arguments, and are so when read back
                "args": bound.args,
                "kwargs": bound.kwargs,
                "draft": str(draft),
            },
            job,
        )
        _run([sys.executable, "-m", "generation.engines.packages", str(job)], folder=Path(name), is_wanted=is_wanted)
        draft.replace(file)
        _trace_of(file).unlink(missing_ok=True)  # it told of the one before


def load(file: Path, *, function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The compiled function, which uses the weights of the module that `function` is or belongs to.

    A package that is damaged is removed, so that it is made anew the next time that it is wanted.
    """
    import torch._inductor.config  # over a second, for those who compile

    # Single-threaded says: without the events of its own that a CUDA graph does not bear.
    index = (device.index or 0) if device.type == "cuda" else -1
    _share_cpp_library()
    # To compare this machine's processor with that of the package PyTorch compiles a few programs, for half a minute.
    with _trace_of_loading(file), torch._inductor.config.patch({"cpp.vec_isa_ok": True}):
        try:
            package = torch._inductor.aoti_load_package(str(file), run_single_threaded=True, device_index=index)
        except Exception:
            if _is_damaged(file):
                file.unlink(missing_ok=True)
            raise
        module = module_of(function)
        own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        weights = {name: own[name] for name in package.get_constant_fqns()}
        package.load_constants(weights, check_full_update=True, user_managed=True)
    _loaded.append(package)
    # A package holds on to each weight. https://github.com/pytorch/pytorch/pull/194480
    weakref.finalize(module, _free, [weight.untyped_storage() for weight in weights.values()]).atexit = False
    return package


def _free(storages: Sequence[torch.UntypedStorage]) -> None:
    """Give their memory back, whoever refers to them; on a CPU there may be pages of a file, which have none."""
    for storage in storages:
        if storage.resizable():
            storage.resize_(0)


def _is_damaged(package: Path) -> bool:
    """Whether the file is no whole archive: after a power cut, say."""
    try:
        with zipfile.ZipFile(package) as archive:
            return archive.testzip() is not None
    except OSError:
        return False
    except Exception:  # whatever Python makes of garbage in an archive's list of files
        return True


@contextmanager
def _trace_of_loading(file: Path) -> Iterator[None]:
    """Leave a mark in a file where loading ends the whole process. Raises RuntimeError if MOST_DEATHS were left.

    Whoever loads holds a lock on that file, so marks in one that nobody holds are of processes that have died.
    """
    trace = _trace_of(file)
    try:
        held = trace.open("ab")
    except OSError:  # packages may lie where nothing can be written; they are loaded there too
        yield
        return
    with held:
        with suppress(OSError):  # another process is loading it, or files cannot be locked there
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(held.fileno()).st_size >= MOST_DEATHS:
                raise RuntimeError(f"loading its package has ended workers; to have it tried again remove {trace}")
            held.write(b".")
            held.flush()
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_SH)
        try:
            yield
        finally:
            trace.unlink(missing_ok=True)


def _trace_of(file: Path) -> Path:
    return file.with_suffix(".loading")


@cache
def _share_cpp_library() -> None:
    """Have packages take the C++ library of this process even where the linker has put one into them.

    Where it finds no shared one it does so silently, and two of them in one process end it.
    """
    with suppress(OSError):
        ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)


def module_of(function: Callable[..., Any]) -> torch.nn.Module:
    """The module itself, or that of a method."""
    module = getattr(function, "__self__", function)
    if not isinstance(module, torch.nn.Module):
        raise RuntimeError(f"{function} is no part of a model")
    return module


def lay_out(module: torch.nn.Module) -> torch.nn.Module:
    """Have the weights of convolutions as compiled code reads them."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def _alone(file: Path, *, is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Nobody else who builds this file is in the block; the lock goes with its process."""
    with file.with_suffix(".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not is_wanted():
                    raise RuntimeError("it is not wanted any more") from None
                time.sleep(LOOK_AGAIN_SECONDS)
        yield


def _check_means(module: torch.nn.Module, *, device: torch.device) -> None:
    if not any(map(shutil.which, ("g++", "clang++"))):
        raise RuntimeError("it takes a C++ compiler; install g++, or set PICTOR_COMPILE=false")
    needed = sum(weight.nbytes for weight in module.parameters()) + SPARE_BYTES
    free = devices.free_memory_bytes(device)
    if free is not None and free < needed:
        raise RuntimeError(
            f"it takes {needed / 2**30:.0f} GiB of GPU memory for a while, and {free / 2**30:.0f} are free"
        )


def _run(command: list[str], *, folder: Path, is_wanted: Callable[[], bool]) -> None:
    """Wait for the process, and end it where nobody waits for what it does any more."""
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    gives_up_at = time.monotonic() + MOST_SECONDS
    while process.poll() is None:
        if not is_wanted() or time.monotonic() > gives_up_at:
            process.kill()
        time.sleep(LOOK_AGAIN_SECONDS)
    if process.returncode:
        errors = [line for line in log.read_text().splitlines() if re.match(r"[\w.]+(Error|Exception): ", line)]
        raise RuntimeError(errors[-1] if errors else f"its compilation ended with {process.returncode}")


def main(job_file: str) -> None:
    """Compile what the file says."""
    os.nice(NICENESS)
    import diffusers
    import torch._inductor

    job = torch.load(job_file, weights_only=True)
    module = getattr(diffusers, job["class_name"]).from_pretrained(
        job["folder"], dtype=job["dtype"], use_safetensors=True, local_files_only=True
    )
    module = lay_out(module.to(job["device"]).eval())
    module.forward = getattr(module, job["method"])
    with torch.no_grad():
        program = torch.export.export(
            module,
            job["args"],
            job["kwargs"],
            dynamic_shapes=_shapes_of(job["rows"], among=(job["args"], job["kwargs"])),
        )
        torch._inductor.aoti_compile_and_package(program, package_path=job["draft"], inductor_configs=SETTINGS)


def _shapes_of(rows: list[torch.Tensor], *, among: Any) -> Any:
    """That the number of rows may be any, where there is more than one."""
    shapes = torch.export.ShapesCollection()
    number = torch.export.Dim("rows", min=2, max=MOST_ROWS)
    identities = {id(tensor) for tensor in rows}
    for leaf in pytree.tree_leaves(among):
        if id(leaf) in identities and len(leaf) > 1:
            shapes[leaf] = {0: number}
    return shapes


if __name__ == "__main__":
    main(sys.argv[1])
