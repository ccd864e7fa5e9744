"""The lock of the Pictor that runs."""

import os

import pytest

from project.instance import AlreadyRunning, Instance, claim, find_running


def test_nobody_runs_where_nobody_ever_ran(tmp_path):
    assert find_running(tmp_path / "up.lock") is None


def test_the_running_one_is_found(tmp_path):
    with claim(tmp_path / "up.lock", url="http://127.0.0.1:8000"):
        found = find_running(tmp_path / "up.lock")

    assert found == Instance(process_id=os.getpid(), url="http://127.0.0.1:8000")


def test_a_second_one_is_refused_and_told_of_the_first(tmp_path):
    with (
        claim(tmp_path / "up.lock", url="http://127.0.0.1:8000"),
        pytest.raises(AlreadyRunning) as raised,
        claim(tmp_path / "up.lock", url="http://127.0.0.1:9000"),
    ):
        pass

    assert str(raised.value) == f"Pictor is already running at http://127.0.0.1:8000 (process {os.getpid()})."


def test_the_lock_ends_with_its_holder(tmp_path):
    with claim(tmp_path / "up.lock", url="http://127.0.0.1:8000"):
        pass

    assert find_running(tmp_path / "up.lock") is None
