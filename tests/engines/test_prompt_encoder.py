"""Prompts are encoded one at a time, and remembered for a while."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import DiffusionPipeline

from generation.engines.prompts import PromptEncoder
from tests.engines.models import FOLDER

THREADS = 8
SUBJECTS = ("red apple", "old harbour at dawn", "cat", "green leaf on a white table", "fox", "tiny house, snow", "")


@pytest.fixture(scope="module")
def pipe():
    return DiffusionPipeline.from_pretrained(FOLDER, dtype=torch.float32)


def encode_with(encoder, pipe, prompt):
    encode_prompt = encoder.encoding_with(copy.copy(pipe).encode_prompt)
    return encode_prompt(prompt, torch.device("cpu"), 1, True, "")


class Counting:
    """What encodes prompts, and counts."""

    def __init__(self):
        self.count = 0

    def encode_prompt(self, prompt, embeds=None, num_images_per_prompt=1):
        self.count += 1
        if prompt == "fails":
            raise ValueError("no such word")
        return torch.full((num_images_per_prompt,), float(len(prompt)))

    def encode_otherwise(self, prompt):
        self.count += 1
        return torch.zeros(1)


@torch.no_grad()
def test_prompts_encoded_by_many_threads_at_once_are_what_they_are_one_by_one(pipe):
    prompts = [f"{subject} {i}" for i in range(8) for subject in SUBJECTS]
    expected = {prompt: pipe.encode_prompt(prompt, torch.device("cpu"), 1, True, "") for prompt in prompts}
    encoder = PromptEncoder(most=2)  # nearly nothing is remembered
    begin = threading.Barrier(THREADS)

    def hammer(start):
        begin.wait(60)
        with torch.no_grad():
            return {prompt: encode_with(encoder, pipe, prompt) for prompt in prompts[start::THREADS]}

    with ThreadPoolExecutor(THREADS) as pool:
        encoded = {prompt: both for part in pool.map(hammer, range(THREADS)) for prompt, both in part.items()}

    assert encoded.keys() == expected.keys()
    for prompt, both in expected.items():
        assert all(torch.equal(one, other) for one, other in zip(encoded[prompt], both, strict=True)), prompt


def test_no_two_threads_encode_at_the_same_time():
    inside, most = [], []
    everybody_is_there = threading.Barrier(THREADS)

    def encode_prompt(prompt):
        inside.append(prompt)
        for _ in range(100):
            torch.ones(8).sum()  # lets other threads in
        most.append(len(inside))
        inside.remove(prompt)

    encoder = PromptEncoder()

    def hammer(i):
        everybody_is_there.wait(60)
        encoder.encoding_with(encode_prompt)(f"prompt {i}")

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(hammer, range(THREADS)))

    assert most == [1] * THREADS


def test_a_prompt_that_was_encoded_lately_is_remembered():
    counting, encoder = Counting(), PromptEncoder()
    first = encoder.encoding_with(counting.encode_prompt)("a fox", num_images_per_prompt=2)

    second = encoder.encoding_with(counting.encode_prompt)("a fox", num_images_per_prompt=2)

    assert torch.equal(first, second)
    assert counting.count == 1


@pytest.mark.parametrize("other", [("a dog",), ("a fox", None, 2), (["a fox"],)])
def test_other_arguments_are_encoded_anew(other):
    counting = Counting()
    encode = PromptEncoder().encoding_with(counting.encode_prompt)
    encode("a fox", None, 1)

    encode(*other)

    assert counting.count == 2


def test_other_methods_encode_anew():
    counting, encoder = Counting(), PromptEncoder()
    encoder.encoding_with(counting.encode_prompt)("a fox")

    encoder.encoding_with(counting.encode_otherwise)("a fox")

    assert counting.count == 2


def test_what_was_used_longest_ago_is_forgotten_first():
    counting = Counting()
    encode = PromptEncoder(most=2).encoding_with(counting.encode_prompt)
    for prompt in ("a fox", "a dog", "a fox", "a cat"):
        encode(prompt)
    assert counting.count == 3

    encode("a fox")
    assert counting.count == 3

    encode("a dog")
    assert counting.count == 4


def test_arguments_like_tensors_are_encoded_each_time():
    counting = Counting()
    encode = PromptEncoder().encoding_with(counting.encode_prompt)

    for _ in range(2):
        encode("a fox", embeds=torch.zeros(1))

    assert counting.count == 2


def test_a_prompt_that_failed_is_tried_again():
    counting = Counting()
    encode = PromptEncoder().encoding_with(counting.encode_prompt)

    for _ in range(2):
        with pytest.raises(ValueError, match="no such word"):
            encode("fails")

    assert counting.count == 2


@torch.no_grad()
def test_encoders_in_main_memory_encode_as_before(pipe):
    expected = encode_with(PromptEncoder(), pipe, "a red apple")
    encoder = PromptEncoder()
    encoder.keep_in_main_memory([pipe.text_encoder], device=torch.device("cpu"))

    for one, other in zip(encode_with(encoder, pipe, "a red apple"), expected, strict=True):
        torch.testing.assert_close(one, other)
