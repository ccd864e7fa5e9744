"""Calls are taken apart into rows, and their keys tell who may share a forward."""

import pytest
import torch

from generation.engines.callee import Callee, Company
from generation.engines.rows import Disassembler, split
from tests.engines.tiny import WIDTH, AtMost, Conditioned, Denoiser, callee_of, sample, take_apart


def key_of(module, *args, company=Company.ANY, **kwargs):
    return take_apart(callee_of(module), *args, company=company, **kwargs).key


# --- Who may share ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "timestep",
    [torch.tensor(7), torch.tensor(7.0), torch.tensor([7]), torch.tensor([7.0, 7.0]), 7, 7.0],
    ids=["0-d whole", "0-d", "one whole", "one per row", "int", "float"],
)
def test_timesteps_of_all_kinds_share(denoiser, timestep):
    usual = take_apart(callee_of(denoiser), sample(2), torch.tensor([3.0, 3.0]))

    call = take_apart(callee_of(denoiser), sample(2), timestep)

    assert call.key == usual.key
    assert torch.equal(call.run()[0], denoiser(sample(2), torch.tensor([7.0, 7.0]))[0])


def test_calls_with_different_numbers_of_rows_share(denoiser):
    assert key_of(denoiser, sample(2), 1.0) == key_of(denoiser, sample(5), 1.0)


def test_positional_and_named_arguments_share(denoiser):
    assert key_of(denoiser, sample(2), 1.0) == key_of(denoiser, timestep=1.0, sample=sample(2))


def test_empty_arguments_that_are_empty_by_default_share_with_none(denoiser):
    assert key_of(denoiser, sample(2), 1.0, img_ids=None) == key_of(denoiser, sample(2), 1.0)


def test_shared_tensors_of_the_same_values_share(denoiser):
    ids = torch.arange(6.0).reshape(3, 2)

    assert key_of(denoiser, sample(2), 1.0, img_ids=ids) == key_of(denoiser, sample(2), 1.0, img_ids=ids.clone())


def test_a_shared_tensor_is_none_of_the_rows_though_it_is_as_long(denoiser):
    ids = torch.arange(4.0).reshape(2, 2)

    call = take_apart(callee_of(denoiser), sample(2), 1.0, img_ids=ids)

    assert torch.equal(call.part(0, 1).run()[0], denoiser(sample(2)[:1], 1.0, img_ids=ids)[0])


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (torch.zeros(3, 2), torch.ones(3, 2)),
        (torch.zeros(3, 2), torch.zeros(2, 3)),
        (torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.float64)),
        (torch.zeros(3, 2), None),
    ],
    ids=["values", "shape", "dtype", "absence"],
)
def test_shared_tensors_that_differ_keep_calls_apart(denoiser, mine, theirs):
    assert key_of(denoiser, sample(2), 1.0, img_ids=mine) != key_of(denoiser, sample(2), 1.0, img_ids=theirs)


def test_shared_tensors_in_bfloat16_are_told_apart_by_value(denoiser):
    ids = torch.arange(6).reshape(3, 2).bfloat16()

    assert key_of(denoiser, sample(2), 1.0, img_ids=ids) != key_of(denoiser, sample(2), 1.0, img_ids=ids + 1)


def test_values_that_are_no_tensors_keep_calls_apart_if_they_differ(denoiser):
    assert key_of(denoiser, sample(2), 1.0, scale=1.0) != key_of(denoiser, sample(2), 1.0, scale=2.0)


def test_equal_values_of_different_types_keep_calls_apart(denoiser):
    assert key_of(denoiser, sample(2), 1.0, scale=1) != key_of(denoiser, sample(2), 1.0, scale=True)


def test_dtypes_keep_calls_apart(denoiser):
    assert key_of(denoiser, sample(2), 1.0) != key_of(denoiser, sample(2).bfloat16(), 1.0)


def test_trailing_shapes_keep_calls_apart(denoiser):
    assert key_of(denoiser, torch.zeros(2, 4, 8), 1.0) != key_of(denoiser, torch.zeros(2, 8, 4), 1.0)


def test_models_keep_calls_apart(denoiser):
    one, other = callee_of(denoiser, name="one"), callee_of(denoiser, name="other")

    assert take_apart(one, sample(), 1.0).key != take_apart(other, sample(), 1.0).key


def test_company_keeps_calls_apart(denoiser):
    keys = {key_of(denoiser, sample(2), 1.0, company=company) for company in Company}

    assert len(keys) == 3


def test_names_in_nested_conditions_keep_calls_apart():
    some = {"text_embeds": sample(2)}
    more = {"text_embeds": sample(2), "time_ids": torch.zeros(2, 6)}

    keys = {key_of(Conditioned(), sample(2), 1.0, sample(2), conditions) for conditions in (some, more)}

    assert len(keys) == 2


# --- What cannot be taken apart --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "residuals",
    [(torch.zeros(3, WIDTH),), {1: {2}}],
    ids=["a tensor with another number of rows", "a value without hash"],
)
def test_a_call_that_cannot_be_taken_apart_shares_with_nobody(residuals):
    call, other = (
        take_apart(callee_of(Conditioned()), sample(2), 1.0, sample(2), {"text_embeds": sample(2)}, residuals)
        for _ in range(2)
    )

    assert not call.can_share
    assert call.key != other.key


def test_a_call_that_cannot_be_taken_apart_is_made_as_it_was():
    residuals = (torch.ones(1, WIDTH),)
    arguments = (sample(2), torch.tensor([2, 3]), sample(2), {"text_embeds": sample(2)}, residuals)
    call = take_apart(callee_of(Conditioned()), *arguments)

    output = split(call.run(), among=[call])[0]

    assert torch.equal(output[0], Conditioned()(*arguments)[0])


def test_a_call_without_tensor_in_the_first_place_cannot_be_taken_apart():
    call = take_apart(callee_of(lambda size, sample: sample * size), 3, sample(2))

    assert not call.can_share
    assert torch.equal(call.run(), sample(2) * 3)


# --- What else is known of a call ------------------------------------------------------------------------


def test_a_number_beside_tensors_of_a_device_is_moved_there():
    call = take_apart(callee_of(Denoiser()), sample(2).to("meta"), torch.tensor(7))

    assert call.rows[1].device.type == "meta"


def test_the_shape_names_the_model_and_what_a_row_looks_like():
    call = take_apart(callee_of(Denoiser(), name="model unet"), torch.zeros(2, 4, 8, 6), 1.0)

    assert call.shape == "model unet 4x8x6"


def test_the_signature_is_that_of_the_forward():
    assert list(Callee.of(Denoiser(), name="", limits=AtMost(1)).signature.parameters)[:2] == ["sample", "timestep"]


@pytest.mark.parametrize(("company", "count"), [(Company.ANY, 8), (Company.FIXED, 4), (Company.NONE, 2)])
def test_company_decides_how_many_rows_share(company, count):
    callee = callee_of(Denoiser(), limits=AtMost(8), fixed_count=4)

    assert take_apart(callee, sample(2), 1.0, company=company).most_rows == count


@pytest.mark.parametrize(
    ("examined", "company"), [("", Company.FIXED), ("unet 4", Company.FIXED), ("unet 8", Company.NONE)]
)
def test_rows_of_a_shape_that_nobody_has_looked_at_do_not_share_in_a_fixed_number(examined, company):
    callee = callee_of(Denoiser(), name="unet", fixed_count=4)
    calls = Disassembler(callee, company=Company.FIXED, examined=examined)

    call = calls.take_apart(sample(2), 1.0)

    assert (call.layout.company, call.key.company) == (company, company)
