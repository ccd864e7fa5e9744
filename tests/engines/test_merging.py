"""Rows of several calls become one call, and each call gets its own rows of the output."""

from collections import namedtuple

import pytest
import torch

from generation.engines.callee import Company
from generation.engines.rows import join, merge, split
from tests.engines.tiny import WIDTH, Conditioned, callee_of, sample, take_apart

Output = namedtuple("Output", ["sample", "size"])


class OfLists(torch.nn.Module):
    """As Z-Image has it: pictures and captions of any length."""

    def forward(self, x, t, cap_feats, patch_size=2):
        return [picture * time + caption.sum() for picture, time, caption in zip(x, t, cap_feats, strict=True)], {}


def key_of(module, *args, company=Company.ANY, **kwargs):
    return take_apart(callee_of(module), *args, company=company, **kwargs).key


def test_each_gets_its_own_rows_of_a_merged_call(denoiser):
    callee = callee_of(denoiser)
    calls = [take_apart(callee, sample(count, seed=count), float(count)) for count in (2, 1, 3)]

    outputs = split(merge(calls).run(), among=calls)

    for count, output in zip((2, 1, 3), outputs, strict=True):
        torch.testing.assert_close(output[0], denoiser(sample(count, seed=count), float(count))[0])


def test_nested_rows_are_merged_too():
    callee = callee_of(Conditioned())

    def arguments(count):
        conditions = {"text_embeds": sample(count, seed=10 + count)}
        residuals = (sample(count, seed=20 + count), sample(count, seed=30 + count))
        return sample(count), torch.tensor(count), sample(count, seed=40), conditions, residuals

    calls = [take_apart(callee, *arguments(count)) for count in (1, 2)]

    outputs = split(merge(calls).run(), among=calls)

    for count, output in zip((1, 2), outputs, strict=True):
        first, time, *others = arguments(count)
        torch.testing.assert_close(output[0], Conditioned()(first, time.float().expand(count), *others)[0])


def test_lists_of_tensors_of_different_lengths_are_merged():
    callee = callee_of(OfLists())
    captions = [[torch.ones(3, WIDTH)], [torch.ones(5, WIDTH), torch.ones(2, WIDTH)]]
    pictures = [list(torch.randn(len(entries), 1, 8, 8)) for entries in captions]
    calls = [
        take_apart(callee, picture, torch.ones(len(picture)), caption)
        for picture, caption in zip(pictures, captions, strict=True)
    ]

    assert calls[0].key == calls[1].key
    outputs = split(merge(calls).run(), among=calls)

    for call, output in zip(calls, outputs, strict=True):
        alone = call.run()[0]
        assert len(output[0]) == len(alone)
        assert all(torch.equal(one, other) for one, other in zip(output[0], alone, strict=True))


def test_lists_of_different_lengths_share_with_nobody_where_bits_may_not_depend_on_the_company():
    captions = [torch.ones(3, WIDTH), torch.ones(5, WIDTH)]
    pictures = list(torch.zeros(2, 1, 8, 8))

    keys = [key_of(OfLists(), pictures, torch.ones(2), captions, company=Company.FIXED) for _ in range(2)]

    assert keys[0] != keys[1]


def test_lists_of_one_length_share_where_bits_may_not_depend_on_the_company():
    captions = [torch.ones(3, WIDTH), torch.ones(3, WIDTH)]
    pictures = list(torch.zeros(2, 1, 8, 8))

    keys = [key_of(OfLists(), pictures, torch.ones(2), captions, company=Company.FIXED) for _ in range(2)]

    assert keys[0] == keys[1]


def test_a_named_tuple_comes_back_as_one(denoiser):
    calls = [take_apart(callee_of(denoiser), sample(count), 1.0) for count in (1, 2)]

    outputs = split(Output(sample(3), 8), among=calls)

    assert [type(output) for output in outputs] == [Output, Output]
    assert torch.equal(outputs[1].sample, sample(3)[1:])
    assert outputs[1].size == 8


def test_an_output_without_rows_is_everybodys(denoiser):
    calls = [take_apart(callee_of(denoiser), sample(count), 1.0) for count in (1, 2)]

    outputs = split((sample(3), torch.tensor(0.5)), among=calls)

    assert [output[1].item() for output in outputs] == [0.5, 0.5]


def test_an_output_with_too_few_rows_is_an_error(denoiser):
    calls = [take_apart(callee_of(denoiser), sample(count), 1.0) for count in (1, 2)]

    with pytest.raises(ValueError, match="fewer than 3 rows"):
        split((sample(2),), among=calls)


def test_rows_of_padding_are_dropped(denoiser):
    call = take_apart(callee_of(denoiser), sample(3), 1.0)

    output = split(call.padded(8).run(), among=[call])[0]

    assert denoiser.counts == [8]
    torch.testing.assert_close(output[0], denoiser(sample(3), 1.0)[0])


def test_padding_to_fewer_rows_than_there_are_changes_nothing(denoiser):
    call = take_apart(callee_of(denoiser), sample(3), 1.0)

    assert call.padded(2) is call


def test_lists_are_padded_with_their_last_entry():
    captions = [torch.ones(3, WIDTH), torch.ones(5, WIDTH)]
    call = take_apart(callee_of(OfLists()), list(torch.zeros(2, 1, 8, 8)), torch.ones(2), captions)

    padded = call.padded(4)

    assert [len(caption) for caption in padded.rows[2]] == [3, 5, 5, 5]


def test_the_outputs_of_parts_are_joined_to_that_of_the_whole(denoiser):
    call = take_apart(callee_of(denoiser), sample(5), torch.arange(5.0))
    parts = [call.part(0, 2), call.part(2, 4), call.part(4, 5)]

    joined = join([part.run() for part in parts], lists=False)

    torch.testing.assert_close(joined[0], call.run()[0])


def test_the_lists_of_parts_are_joined():
    captions = [torch.ones(length, WIDTH) for length in (3, 5, 4)]
    call = take_apart(callee_of(OfLists()), list(torch.ones(3, 1, 8, 8)), torch.ones(3), captions)

    joined = join([call.part(0, 1).run(), call.part(1, 3).run()], lists=True)

    assert [picture[0, 0, 0].item() for picture in joined[0]] == [13.0, 21.0, 17.0]
