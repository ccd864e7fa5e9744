"""How many rows share a forward: found by trying, lowered where memory runs out."""

import time

import pytest
import torch

from generation.engines.knees import MOST_SECONDS, SHORTAGE_SECONDS, Knees, OneAtATime, PixelBudget
from generation.engines.notebook import Notebook
from generation.engines.rows import Disassembler
from tests.engines.tiny import Denoiser, callee_of, sample, take_apart

CALLEE = callee_of(Denoiser(), name="model unet")


@pytest.fixture
def knees():
    return Knees(Notebook())


@pytest.fixture
def call():
    return take_apart(callee_of(Denoiser(), name="model unet"), sample(2), 0.0)


def latents(height, width):
    return take_apart(callee_of(lambda z: z, name="model decode"), torch.zeros(1, 4, height, width))


def test_a_knee_is_unknown_before_it_is_measured(knees, call):
    assert knees.of(call) is None


def test_the_knee_is_where_twice_the_rows_take_twice_the_time(knees, call):
    knees.measure(call, seconds_of=lambda rows: max(8, rows.count) / 1000)

    assert knees.of(call) == 8


@pytest.mark.parametrize(("side", "knee"), [(4, 32), (8, 16), (16, 4), (32, 1), (64, 1)])
def test_rows_of_another_size_are_expected_to_fill_the_device_with_as_many_latents(knees, side, knee):
    measured, other = (take_apart(CALLEE, torch.zeros(1, 4, height, height), 0.0) for height in (8, side))

    knees.measure(measured, seconds_of=lambda rows: max(16, rows.count) / 1000)

    assert knees.of(other) == knee


def test_memory_that_runs_out_lowers_what_was_expected(knees):
    measured, other = (take_apart(CALLEE, torch.zeros(1, 4, height, height), 0.0) for height in (8, 16))
    knees.measure(measured, seconds_of=lambda rows: max(16, rows.count) / 1000)

    knees.lower(other, 2)

    assert (knees.of(other), knees.of(measured)) == (2, 16)


def test_a_shortage_of_memory_is_forgotten_after_a_day(knees, call, monkeypatch):
    knees.measure(call, seconds_of=lambda rows: max(8, rows.count) / 1000)
    knees.lower(call, 2)

    tomorrow = time.time() + SHORTAGE_SECONDS
    monkeypatch.setattr(time, "time", lambda: tomorrow)

    assert (knees.of(call), knees.most_in_memory(call)) == (8, None)


@pytest.mark.parametrize("noted", ["16", 0, -1, None, {"rows": 16}])
def test_a_note_that_is_no_number_of_rows_is_as_good_as_none(call, noted):
    notebook = Notebook()
    for kind in ("knee of", "fits"):
        notebook.put(f"{kind} {call.shape}", noted)

    assert Knees(notebook).of(call) is None


def test_where_every_row_costs_the_same_each_runs_alone(knees, call):
    knees.measure(call, seconds_of=lambda rows: rows.count / 1000)

    assert knees.of(call) == 1


def test_where_rows_cost_nothing_the_largest_bucket_is_the_knee(knees, call):
    knees.measure(call, seconds_of=lambda rows: 0.001)

    assert knees.of(call) == 32


def test_the_knee_is_below_what_does_not_fit(knees, call):
    def seconds_of(rows):
        if rows.count > 4:
            raise MemoryError
        return 0.001

    knees.measure(call, seconds_of=seconds_of)

    assert knees.of(call) == 4


def test_where_nothing_fits_the_knee_is_one(knees, call):
    def seconds_of(rows):
        raise MemoryError

    knees.measure(call, seconds_of=seconds_of)

    assert knees.of(call) == 1


def test_measuring_ends_when_it_has_taken_too_long(knees, call):
    tried = []

    def seconds_of(rows):
        tried.append(rows.count)
        return MOST_SECONDS

    knees.measure(call, seconds_of=seconds_of)

    assert tried == [1]
    assert knees.of(call) == 1


def test_each_shape_of_a_row_has_its_own_knee(knees):
    small, large = latents(8, 8), latents(16, 16)

    knees.lower(small, 8)
    knees.lower(large, 2)

    assert (knees.of(small), knees.of(large)) == (8, 2)


def test_the_number_of_rows_of_a_call_does_not_matter(knees, call):
    knees.lower(call, 8)

    assert knees.of(call.part(0, 1)) == 8


def test_a_knee_is_never_below_one(knees, call):
    knees.lower(call, 0)

    assert knees.of(call) == 1


def test_a_shortage_can_be_forgotten(knees, call):
    knees.lower(call, 2)

    knees.forget_shortage(call)

    assert knees.most_in_memory(call) is None
    assert knees.all_of("model") == {}


def test_the_knees_of_a_model_are_told_by_part_and_shape(knees, call):
    knees.lower(call, 8)
    knees.lower(take_apart(callee_of(Denoiser(), name="model2 unet"), sample(), 0.0), 4)

    assert knees.all_of("model") == {"unet 4": 8}


def test_as_many_pictures_are_decoded_at_once_as_the_pixels_allow():
    budget = PixelBudget(pixels_per_latent=64, most_pixels=1024 * 1024)

    assert [budget.of(latents(*size)) for size in ((64, 64), (64, 128), (128, 128))] == [4, 2, 1]


def test_a_picture_above_the_budget_is_decoded_alone():
    assert PixelBudget(pixels_per_latent=64, most_pixels=1024).of(latents(64, 64)) == 1


def test_where_memory_ran_out_fewer_pictures_of_that_size_are_decoded_at_once():
    budget = PixelBudget(pixels_per_latent=64)

    budget.lower(latents(64, 64), 2)

    assert budget.of(latents(64, 64)) == 2
    assert budget.of(latents(32, 32)) == 16


def test_a_decode_that_cannot_be_taken_apart_has_a_budget_too():
    call = Disassembler(callee_of(lambda z: z)).keep_whole(torch.zeros(1, 4, 8, 8))

    assert PixelBudget(pixels_per_latent=64).of(call) == 1


def test_what_runs_one_at_a_time_goes_on_so(call):
    limits = OneAtATime()

    limits.lower(call, 8)

    assert limits.of(call) == 1
