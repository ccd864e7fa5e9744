"""Lengths of time in words."""

from datetime import timedelta

import pytest

from generation.admin import durations


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (65, "1 min 5 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (100 * 3600, "4 d 4 h"),
    ],
)
def test_a_length_has_two_units_at_most(seconds, words):
    assert durations.in_words(timedelta(seconds=seconds)).replace("\u00a0", " ") == words
