"""What tests of failures may do to a process, and nobody else."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from generation import kill_points


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder in which a process looks."""
    monkeypatch.setattr(kill_points, "FOLDER", str(tmp_path))
    return tmp_path


def test_a_point_without_an_order_is_passed(folder):
    kill_points.reach("after_claim", "one")


def test_an_order_is_obeyed_once(folder):
    (folder / "after_claim").write_text("MemoryError")

    with pytest.raises(MemoryError):
        kill_points.reach("after_claim", "one")
    kill_points.reach("after_claim", "one")


def test_an_order_for_each_time_is_obeyed_each_time(folder):
    (folder / "after_claim").write_text("each SystemExit")

    for _ in range(2):
        with pytest.raises(SystemExit):
            kill_points.reach("after_claim", "one")


def test_an_order_for_one_generation_leaves_the_others_alone(folder):
    (folder / "step-3@one").write_text("each MemoryError")

    kill_points.reach("step-3", "two")
    with pytest.raises(MemoryError):
        kill_points.reach("step-3", "one")


def test_without_the_variable_nothing_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "after_claim").write_text("each MemoryError")

    assert kill_points.FOLDER is None
    kill_points.reach("after_claim", "one")


def test_a_thread_that_is_paused_goes_on_once_its_file_is_gone(folder):
    (folder / "after_upload").write_text("PAUSE")
    with ThreadPoolExecutor(1) as thread:
        passing = thread.submit(kill_points.reach, "after_upload", "one")
        while not (folder / "after_upload.paused").exists():
            assert not passing.done()

        (folder / "after_upload.paused").unlink()

        passing.result(timeout=20)
