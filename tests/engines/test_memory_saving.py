"""What a model tries, one measure after another, where a GPU is too small for it."""

from types import SimpleNamespace

import pytest
import torch

from generation.engines.memory_saving import MemorySaving
from generation.engines.prompts import PromptEncoder


class Vae:
    """Can decode in tiles, or says that it cannot."""

    def __init__(self, *, can_tile=True):
        self.can_tile = can_tile
        self.is_tiling = False

    def enable_tiling(self):
        if not self.can_tile:
            raise NotImplementedError
        self.is_tiling = True


@pytest.fixture
def tiled():
    return []


@pytest.fixture
def saving_of(tiled):
    def make(**parts):
        pipe = SimpleNamespace(**parts)
        device = torch.device("cpu")
        return MemorySaving(pipe, prompts=PromptEncoder(), device=device, when_tiled=lambda: tiled.append(True))

    return make


def test_decoding_tries_tiles_first_and_then_moves_the_text_encoders(saving_of, tiled):
    vae = Vae()
    saving = saving_of(vae=vae, text_encoder=torch.nn.Linear(2, 2), text_encoder_2=None)

    assert saving.for_decoding()
    assert (vae.is_tiling, tiled) == (True, [True])
    assert saving.for_decoding()
    assert not saving.for_decoding()


def test_denoising_gains_nothing_from_tiles(saving_of):
    vae = Vae()
    saving = saving_of(vae=vae, text_encoder=torch.nn.Linear(2, 2))

    assert saving.for_denoising()
    assert not saving.for_denoising()
    assert not vae.is_tiling


def test_a_vae_that_cannot_decode_in_tiles_is_left_as_it_is(saving_of, tiled):
    saving = saving_of(vae=Vae(can_tile=False))

    assert not saving.for_decoding()
    assert not tiled


def test_a_pipeline_without_vae_and_text_encoder_has_no_measure(saving_of):
    saving = saving_of(unet=torch.nn.Linear(2, 2))

    assert not saving.for_denoising()
    assert not saving.for_decoding()
