"""Pictures that a pipeline looks at: on a tiny FLUX.2 Klein, against diffusers itself."""

import inspect
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from diffusers.pipelines import auto_pipeline
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from generation.engines.abilities import REFERENCES, Abilities, abilities_of, read_abilities
from generation.engines.engine import Engine
from generation.engines.errors import UnsupportedParameter
from generation.engines.types import ModelSource
from tests.engines.company import ROUNDING, differences
from tests.engines.models import FOLDER, ignore, make_request, open_engine, shipped_engine, shipped_parts

WIDTH, HEIGHT = 96, 64


def save_tiny_klein(folder: Path) -> ModelSource:
    """Flow matching by a random transformer, with references as further tokens."""
    torch.manual_seed(0)
    qwen = Qwen3Config(
        vocab_size=3072,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=27,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=shipped_parts()["tokenizer"].backend_tokenizer,
        pad_token="<|endoftext|>",
        model_max_length=512,
        chat_template="{% for message in messages %}{{ message['content'] }}{% endfor %}",
    )
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=3 * 16,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    vae = AutoencoderKLFlux2(
        block_out_channels=(16, 16, 16, 16), latent_channels=4, norm_num_groups=8, sample_size=64, layers_per_block=1
    )
    pipe = Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(qwen),
        tokenizer=tokenizer,
        transformer=transformer,
    )
    pipe.save_pretrained(folder)
    return ModelSource(slug="tiny-klein", source=str(folder))


@cache
def klein() -> tuple[Engine, ModelSource]:
    """A CPU engine with the tiny model."""
    engine = open_engine()
    with TemporaryDirectory() as folder:
        source = save_tiny_klein(Path(folder))
        engine.load(source)
    return engine, source


def picture(colour: str, *, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    return np.asarray(Image.new("RGB", size, colour))


def draw(*references: np.ndarray, **changes) -> np.ndarray:
    engine, source = klein()
    request = make_request(model=source, width=WIDTH, height=HEIGHT, references=references, **changes)
    return engine.generate(request, on_step=ignore).pixels[0]


@pytest.mark.parametrize("colours", [["crimson"], ["crimson", "navy"]])
def test_the_bytes_are_those_of_a_plain_diffusers_call(colours):
    engine, source = klein()
    request = make_request(model=source)
    plain = engine._models[source.slug].pipe(
        prompt=request.prompt,
        image=[Image.fromarray(picture(colour)) for colour in colours],
        width=WIDTH,
        height=HEIGHT,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed),
    )

    pixels = draw(*(picture(colour) for colour in colours))

    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(pixels, np.asarray(plain.images[0]))


def test_each_reference_counts():
    none, one, two = draw(), draw(picture("crimson")), draw(picture("crimson"), picture("navy"))

    assert not np.array_equal(none, one)
    assert not np.array_equal(one, two)


def test_references_may_have_sizes_of_their_own():
    assert draw(picture("crimson", size=(64, 80)), picture("navy", size=(128, 64))).shape == (HEIGHT, WIDTH, 3)


def test_a_model_that_looks_at_images_also_redraws_one():
    engine, source = klein()
    request = make_request(model=source, width=WIDTH, height=HEIGHT, image=picture("crimson"))

    assert engine.generate(request, on_step=ignore).pixels.shape == (1, HEIGHT, WIDTH, 3)


def test_generations_with_and_without_references_run_at_once():
    wishes = [(), (picture("crimson"),), (picture("crimson"), picture("navy"))]
    alone = [draw(*references, num_inference_steps=4) for references in wishes]

    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda references: draw(*references, num_inference_steps=4), wishes))

    assert max(differences(together, alone)) <= ROUNDING


def test_image_and_references_together_are_refused():
    with pytest.raises(UnsupportedParameter, match="either image or reference_images"):
        draw(picture("crimson"), image=picture("navy"))


def test_a_model_that_takes_none_says_so():
    request = make_request(references=(picture("crimson"),))

    with pytest.raises(UnsupportedParameter, match="takes no reference images"):
        shipped_engine().generate(request, on_step=ignore)


def pipelines_by_name() -> Iterator[str]:
    for mapping in auto_pipeline.SUPPORTED_TASKS_MAPPINGS:
        yield from (pipeline.__name__ for pipeline in mapping.values())


def test_what_is_told_of_pipelines_is_what_diffusers_does():
    def finds(mapping, name):
        return auto_pipeline._get_task_class(mapping, name, throw_error_if_not_exist=False) is not None

    names = set(pipelines_by_name())

    told = {name: abilities_of(name) for name in names}

    assert {name for name in names if told[name].image} == {
        name for name in names if finds(auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, name)
    }
    assert {name for name in names if told[name].mask} == {
        name for name in names if finds(auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING, name)
    }


@pytest.mark.parametrize(("name", "parameter"), REFERENCES.items())
def test_a_pipeline_that_looks_at_images_has_a_parameter_for_them(name, parameter):
    assert parameter in inspect.signature(getattr(diffusers, name).__call__).parameters


def test_the_shipped_models_folder_tells_what_it_can_do():
    assert read_abilities(FOLDER) == Abilities(image=True, mask=True, reference_images=False)


@pytest.mark.parametrize("text", [None, "no JSON", "[]", json.dumps({"name": "x"})])
def test_of_a_folder_that_tells_nothing_nothing_is_known(tmp_path, text):
    if text is not None:
        (tmp_path / "model_index.json").write_text(text)

    assert read_abilities(tmp_path) == Abilities()
