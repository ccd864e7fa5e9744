"""An engine: the models on one device, and generations that share its denoisers at every step."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path

from generation.engines import device as devices
from generation.engines import schedulers
from generation.engines.batching import Batcher
from generation.engines.compiling import Compiler
from generation.engines.errors import DeviceLost, ModelUnavailable, OutOfMemory, UnsupportedParameter
from generation.engines.examination import examine, identify
from generation.engines.flight import Flight
from generation.engines.forwards import Forwards
from generation.engines.knees import Knees
from generation.engines.loaded_model import LoadedModel
from generation.engines.loading import load_pipeline
from generation.engines.notebook import Notebook
from generation.engines.packed_state import PackedState
from generation.engines.pipeline_call import call
from generation.engines.state import SavedState
from generation.engines.turns import SharedOrExclusive
from generation.engines.types import (
    DeviceDescription,
    GeneratedImages,
    ImageRequest,
    ModelFacts,
    ModelSource,
    OnStep,
    Pipeline,
    Progress,
)

# Of a reproducible forward: on a GPU two pictures with guidance fill it; on a CPU, where every row costs the same, one.
FIXED_ROWS = {"cuda": 4, "cpu": 2}

# A thread of Python that wants to go on waits so long for one that does not stop by itself. Threads of generations come
# back from each operation of theirs, and the engine's thread must not wait for them while the device idles.
SWITCH_SECONDS = 0.0005


class Engine:
    """Runs unmodified diffusers pipelines on one device. Any thread may call any method at any time.

    Each generation is an ordinary pipeline call in the thread that asks for it; `batching` merges what several of
    them ask of their denoiser at the same moment. Loading changes torch's default dtype for the whole
    process, so it waits until no generation runs. What is measured on the device is kept in `folder`, if given, and
    with `compiles` what is compiled there for a GPU.
    """

    def __init__(self, device: str, *, folder: Path | None = None, compiles: bool = False) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        self._device = devices.open_device(device)
        devices.warm_up(self._device)
        self._models: dict[str, LoadedModel] = {}
        self._turns = SharedOrExclusive()
        self._notebook = Notebook(folder / f"{devices.file_name(self._device)}.json" if folder else None)
        self._compiler = self._open_compiler(folder) if compiles and self._is_cuda else None
        self._forwards = Forwards(self._device, compiler=self._compiler)
        self._denoiser = Batcher(self._forwards, flight=Flight(self._device), name="denoiser")
        self._decoder = self._open_decoder() if self._is_cuda else self._denoiser

    def describe(self) -> DeviceDescription:
        """What the device is."""
        return devices.describe(self._device)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Slugs of the models in memory."""
        return tuple(self._models)

    def load(self, model: ModelSource) -> None:
        """Have the model in memory; another one under the same slug makes way first. Raises EngineError."""
        self._load(model)

    def unload(self, slug: str) -> None:
        """Forget a model, if it is there; a generation that runs with it keeps its memory until the end."""
        model = self._models.pop(slug, None)
        if model is not None:
            self._forget(model.callee_names())
            del model  # its memory is to be free before it is given back
            devices.free_memory(self._device)

    def facts(self) -> tuple[ModelFacts, ...]:
        """What is known of each model in memory."""
        return tuple(model.facts() for model in list(self._models.values()))

    def schedulers(self, slug: str) -> tuple[str, ...]:
        """Names of the schedulers that fit a loaded model."""
        model = self._models.get(slug)
        if model is None:
            raise ModelUnavailable(f"{slug} is not loaded. Load it before asking for its schedulers.")
        return schedulers.compatible(model.pipe)

    def generate(
        self, request: ImageRequest, *, on_step: OnStep, resume_from: SavedState | PackedState | None = None
    ) -> GeneratedImages:
        """Draw what is asked for, loading the model if need be, and tell on_step of each denoising step.

        Image i has the seed `request.seed + i`. With a state that the same request has saved, only the steps
        after it are taken. What on_step raises comes out unchanged, and nothing is decoded then. Raises EngineError.
        """
        if isinstance(resume_from, PackedState):
            resume_from = SavedState.from_bytes(resume_from.data)
        model = self._load(request.model)
        if request.is_reproducible and model.verdict.reproducible_in is None:
            raise UnsupportedParameter(f"This model is not reproducible here: {model.verdict.reason}")
        waiting = Progress(step=0, total=request.num_inference_steps)
        if resume_from is not None:
            waiting = Progress(step=resume_from.step, total=resume_from.total)

        def keep_waiting() -> None:
            on_step(waiting)

        turn = model.turn(while_waiting=keep_waiting)
        helpers = devices.without_helpers(self._device) if model.verdict.can_share else nullcontext()
        shared = self._turns.shared(while_waiting=keep_waiting)
        with shared, turn, helpers, self._denoiser.membership() as member:

            def step(progress: Progress) -> None:
                if progress.step >= progress.total:
                    self._denoiser.leave(member)
                on_step(progress)

            pipe = model.lend(
                request, denoiser=self._denoiser, decoder=self._decoder, member=member, while_waiting=keep_waiting
            )
            devices.start_measuring_memory(self._device)
            started = time.perf_counter()
            pixels = call(
                pipe,
                request,
                on_step=step,
                device=self._device,
                previewer=model.previewer,
                resume_from=resume_from,
            )
            return GeneratedImages(
                pixels=pixels,
                pipeline_seconds=time.perf_counter() - started,
                peak_memory_bytes=devices.peak_memory_bytes(self._device),
            )

    def close(self) -> None:
        """Forget all models and end the threads."""
        if self._compiler is not None:
            self._compiler.close()
        with suppress(DeviceLost):  # then there is nothing to be forgotten any more
            for slug in self.loaded:
                self.unload(slug)
        for batcher in {self._denoiser, self._decoder}:
            batcher.close()

    @property
    def _is_cuda(self) -> bool:
        return self._device.type == "cuda"

    def _open_compiler(self, folder: Path | None) -> Compiler | None:
        """What often used forwards are compiled with, beside the running ones; it takes a place to keep them."""
        return Compiler(self._device, folder=folder / "compiled") if folder is not None else None

    def _open_decoder(self) -> Batcher:
        """A thread and a stream for decoding, beside those of denoising; a CPU has no room for two."""
        forwards = Forwards(self._device, compiler=self._compiler)
        return Batcher(forwards, flight=Flight(self._device, has_own_stream=True), name="decoder")

    def _load(self, source: ModelSource) -> LoadedModel:
        """The model, loaded and examined now if it is not in memory."""
        if (model := self._find(source)) is not None:
            return model
        with self._turns.exclusive():
            if (model := self._find(source)) is not None:
                return model
            if self._is_cuda:
                return self._load_now(source)
            with ThreadPoolExecutor(1, thread_name_prefix="loading") as passing:  # its helpers end with it
                return passing.submit(self._load_now, source).result()

    def _load_now(self, source: ModelSource) -> LoadedModel:
        self.unload(source.slug)
        pipe = self._load_pipeline(source)
        if self._compiler is not None:
            self._compiler.prepare(pipe)
        model = LoadedModel(
            source,
            pipe,
            name=identify(source, folder=Path(pipe.config._name_or_path), compiles=self._compiler is not None),
            knees=Knees(self._notebook),
            fixed_count=FIXED_ROWS[self._device.type],
            device=self._device,
        )
        self._forget(model.callee_names())  # of one that was unloaded while a generation still ran with it
        with self._forwards.uncompiled():
            examine(model, batcher=self._denoiser, forwards=self._forwards, notebook=self._notebook)
        self._models[source.slug] = model
        return model

    def _load_pipeline(self, source: ModelSource) -> Pipeline:
        """What is being compiled gives way to a model that does not fit beside it."""
        try:
            return load_pipeline(source, device=str(self._device))
        except OutOfMemory:
            if self._compiler is None or not self._compiler.give_way():
                raise
        return load_pipeline(source, device=str(self._device))

    def _forget(self, callees: set[str]) -> None:
        for batcher in {self._denoiser, self._decoder}:
            batcher.forget(callees)
        if self._compiler is not None:
            self._compiler.forget()

    def _find(self, source: ModelSource) -> LoadedModel | None:
        model = self._models.get(source.slug)
        return model if model is not None and model.source == source else None
