"""Which models load, and why others do not."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

from generation.engines.errors import ModelUnavailable
from generation.engines.loading import load_pipeline
from generation.engines.types import ModelSource
from tests.engines.models import FOLDER, SHIPPED, save_tiny_flux

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the shipped model, to be spoilt."""
    return shutil.copytree(FOLDER, tmp_path / "model")


def load(source, *, dtype="auto", revision=None):
    return load_pipeline(ModelSource("spoilt", str(source), revision=revision, dtype=dtype), device="cpu")


def edit_index(folder, **changes):
    file = folder / "model_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_all_parts_have_the_dtype_that_the_source_names(dtype, expected):
    pipe = load(FOLDER, dtype=dtype)

    assert {part.dtype for part in (pipe.unet, pipe.vae, pipe.text_encoder)} == {expected}


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ModelUnavailable, match="bfloat16"):
        load(FOLDER, dtype="int3")


def test_a_folder_of_another_family_loads(tmp_path):
    pipe = load_pipeline(save_tiny_flux(tmp_path), device="cpu")

    assert type(pipe).__name__ == "FluxPipeline"


def test_a_model_loads_without_a_progress_bar(capfd):
    load_pipeline(SHIPPED, device="cpu")

    assert "it/s" not in capfd.readouterr().err


def test_a_hub_id_loads_from_the_local_cache(tmp_path, monkeypatch):
    repository = tmp_path / "models--nobody--emoji"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v1").write_text(COMMIT)
    shutil.copytree(FOLDER, repository / "snapshots" / COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    pipe = load("nobody/emoji", revision="v1")

    assert np.isfinite(pipe.unet.conv_out.bias.detach().numpy()).all()


@pytest.mark.parametrize("source", ["nobody/no-such-model", "/no/such/folder", "no-such-folder"])
def test_a_model_that_is_nowhere_is_refused_with_the_way_to_get_it(source, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    with pytest.raises(ModelUnavailable, match=f"hf download {source}"):
        load(source)


def test_a_folder_without_a_model_index_is_refused(folder):
    (folder / "model_index.json").unlink()

    with pytest.raises(ModelUnavailable, match="no model_index"):
        load(folder)


def test_a_folder_with_pickled_weights_alone_is_refused(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))

    with pytest.raises(ModelUnavailable, match="weights of unet in pickles"):
        load(folder)


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        ("mine.py", {"_class_name": ["mine", "MyPipeline"]}),
        ("unet/mine.py", {"unet": ["mine", "MyUNet"]}),
    ],
)
def test_a_model_that_brings_code_is_refused_and_the_code_never_runs(place, changes, folder):
    (folder / place).write_text(f"open({str(folder / 'proof')!r}, 'w')")
    edit_index(folder, **changes)

    with pytest.raises(ModelUnavailable, match="code of its own"):
        load(folder)

    assert not (folder / "proof").exists()


@pytest.mark.parametrize(
    "changes",
    [{"_class_name": "NoSuchPipeline"}, {"unet": ["os", "system"]}, {"unet": ["diffusers", "NoSuchUNet"]}],
)
def test_a_class_that_diffusers_does_not_know_is_refused(changes, folder):
    edit_index(folder, **changes)

    with pytest.raises(ModelUnavailable, match="diffusers cannot load"):
        load(folder)


def test_missing_weights_are_refused(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()

    with pytest.raises(ModelUnavailable, match="is complete"):
        load(folder)


def test_a_load_that_fails_leaves_torchs_default_dtype_alone(folder):
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "down_block_types": ["DownBlock2D"]}))

    with pytest.raises(ModelUnavailable, match="down_block_types"):
        load(folder, dtype="bfloat16")

    assert torch.get_default_dtype() == torch.float32


def test_a_pipeline_without_a_prompt_is_refused(tmp_path):
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
    )
    DDIMPipeline(unet=unet, scheduler=DDIMScheduler()).save_pretrained(tmp_path)

    with pytest.raises(ModelUnavailable, match="takes no prompt"):
        load(tmp_path)
