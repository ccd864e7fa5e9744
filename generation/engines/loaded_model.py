"""A model in memory, lent to many generations at once."""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch

from generation.engines import schedulers
from generation.engines.batching import Batcher, Member
from generation.engines.callee import Callee, Company, nothing_to_save
from generation.engines.equivalence import Verdict
from generation.engines.host_scalars import keep_scalars_on_host
from generation.engines.knees import Knees, OneAtATime, PixelBudget
from generation.engines.memory_saving import MemorySaving
from generation.engines.previews import Previewer
from generation.engines.prompts import PromptEncoder
from generation.engines.rows import Disassembler
from generation.engines.standins import (
    DENOISERS,
    DevicePostprocessor,
    PlainUnet,
    SharedDenoiser,
    SharedVae,
)
from generation.engines.turns import patiently
from generation.engines.types import ImageRequest, ModelFacts, ModelSource, Pipeline
from generation.engines.variants import Variants

SPARE = 2
UNSHARED = Verdict(can_share=False, reason="It was not tried yet.")


@dataclass(slots=True)
class LoadedModel:
    """A pipeline that nobody calls but copies of which are; `name` tells it from all others on the device."""

    source: ModelSource
    pipe: Pipeline
    name: str
    knees: Knees
    fixed_count: int  # rows per forward of those who want the same bits in any company
    device: torch.device
    verdict: Verdict = UNSHARED
    previewer: Previewer = field(default_factory=Previewer)
    _prompts: PromptEncoder = field(default_factory=PromptEncoder)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _variants: Variants = field(init=False)
    _callees: dict[str, Callee] = field(init=False)

    def __post_init__(self) -> None:
        self._variants = Variants(self.pipe)
        self._callees = self._find_callees()

    def turn(self, *, while_waiting: Callable[[], None]) -> AbstractContextManager[None]:
        """What a generation holds while it runs: nothing, unless the model must not be shared."""
        return nullcontext() if self.verdict.can_share else patiently(self._turn, while_waiting)

    def _find_callees(self) -> dict[str, Callee]:
        parts = {name: getattr(self.pipe, name, None) for name in (*DENOISERS, "vae")}
        saving = self._memory_saving()
        callees = {
            name: Callee.of(
                part,
                name=f"{self.name} {name}",
                limits=self.knees,
                fixed_count=self.fixed_count,
                save_memory=saving.for_denoising if saving else nothing_to_save,
            )
            for name, part in parts.items()
            if part is not None and name != "vae"
        }
        if (vae := parts["vae"]) is not None:
            budget = PixelBudget(pixels_per_latent=getattr(self.pipe, "vae_scale_factor", 8) ** 2)
            callees["decode"] = Callee.of(
                vae.decode,
                name=f"{self.name} decode",
                limits=budget,
                save_memory=saving.for_decoding if saving else nothing_to_save,
            )
            callees["encode"] = Callee.of(vae.encode, name=f"{self.name} encode", limits=OneAtATime())
        return callees

    def _memory_saving(self) -> MemorySaving | None:
        """What can be tried on a GPU that is too small, if the model allows it."""
        if not self.source.may_save_memory or self.device.type == "cpu":
            return None
        return MemorySaving(self.pipe, prompts=self._prompts, device=self.device, when_tiled=self._give_up_same_bits)

    def _give_up_same_bits(self) -> None:
        """Another picture came out of the same seed before."""
        reason = "The GPU's memory is so short that large pictures are decoded in tiles."
        self.verdict = replace(self.verdict, reproducible_in=None, reason=reason)

    @property
    def denoisers(self) -> dict[str, Callee]:
        """What the pipeline denoises with, by its name in the pipeline."""
        return {name: self._callees[name] for name in DENOISERS if name in self._callees}

    def facts(self) -> ModelFacts:
        """What the device knows of it; prompts of a few more generations than share a forward are encoded meanwhile."""
        knees = self.knees.all_of(self.name)
        at_once = SPARE + max(knees.values(), default=1) // self.verdict.rows if self.verdict.can_share else 1
        return ModelFacts(
            slug=self.source.slug,
            at_once=max(1, at_once),
            is_batched=self.verdict.can_share,
            is_reproducible=self.verdict.reproducible_in is not None,
            reason=self.verdict.reason,
            rows=knees,
            pixels=self._usual_pixels(),
        )

    def _usual_pixels(self) -> int:
        """Of a picture at whose size the knee was measured; 0 if that does not follow from what the VAE says of itself.

        A transformer may take its latents in patches: there are as many of them, in fewer and longer rows.
        """
        vae = getattr(self.pipe, "vae", None)
        config = getattr(vae, "config", None)
        channels = getattr(config, "latent_channels", None) or getattr(config, "z_dim", None)
        latents = max((self.knees.usual_latents(callee.name) for callee in self.denoisers.values()), default=0)
        return latents * getattr(self.pipe, "vae_scale_factor", 8) ** 2 // channels if channels else 0

    def callee_names(self) -> set[str]:
        """The names under which its forwards run."""
        return {callee.name for callee in self._callees.values()}

    def lend(
        self,
        request: ImageRequest,
        *,
        denoiser: Batcher,
        decoder: Batcher,
        member: Member,
        while_waiting: Callable[[], None],
    ) -> Pipeline:
        """A pipeline for one generation; what can be shared in it is shared. Raises UnsupportedParameter."""
        pipe = copy.copy(self._variants.fitting(request))
        pipe.scheduler = schedulers.build(request.scheduler, pipe=pipe)
        if "unet" in self._callees:  # transformers' pipelines compute with timesteps, and want them on the device
            schedulers.keep_timesteps_on_host(pipe.scheduler)
        keep_scalars_on_host(pipe.scheduler)
        parts = vars(pipe)  # set past DiffusionPipeline.__setattr__, which would write down the class of a stand-in
        if not self.verdict.can_share:
            return _ready_to_inpaint(pipe, request)
        company = (request.is_reproducible and self.verdict.reproducible_in) or Company.ANY
        for name, callee in self.denoisers.items():
            calls = Disassembler(callee, company=company, examined=self.verdict.shape)
            parts[name] = SharedDenoiser(
                callee.function, calls=calls, batcher=denoiser, member=member, while_waiting=while_waiting
            )
        if "decode" in self._callees:
            decode_company = Company.NONE if request.is_reproducible else Company.ANY
            decodes = Disassembler(self._callees["decode"], company=decode_company)
            encodes = Disassembler(self._callees["encode"])
            vae = SharedVae(parts["vae"], decodes=decodes, encodes=encodes, batcher=decoder)
            parts["vae"] = vae
            if "image_processor" in parts:
                processor = DevicePostprocessor(parts["image_processor"], is_finished=vae.has_decoded)
                parts["image_processor"] = processor
        if hasattr(pipe, "encode_prompt"):
            run = denoiser.run_alone if self.device.type == "cpu" else operator.call  # its thread has all cores
            parts["encode_prompt"] = self._prompts.encoding_with(pipe.encode_prompt, run=run)
        return _ready_to_inpaint(pipe, request)


def _ready_to_inpaint(pipe: Pipeline, request: ImageRequest) -> Pipeline:
    """With a UNet that its inpainting pipeline recognises as a plain one, if it is."""
    unet, vae = getattr(pipe, "unet", None), getattr(pipe, "vae", None)
    if request.mask is not None and unet is not None and vae is not None:
        channels = unet.config.in_channels
        if channels != 4 and channels == getattr(vae.config, "latent_channels", None):
            vars(pipe)["unet"] = PlainUnet(unet)
    return pipe
