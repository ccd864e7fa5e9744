"""What happens once, when a model is first loaded, on the CPU."""

import pytest

from generation.engines import examination
from generation.engines.engine import Engine
from generation.engines.errors import DeviceLost
from generation.engines.forwards import Forwards
from generation.engines.knees import Knees
from tests.engines.models import SHIPPED


def notes_in(folder) -> str:
    return "".join(file.read_text() for file in folder.iterdir())


@pytest.mark.parametrize(("fitting", "is_batched"), [(1, False), (2, True)])
def test_where_memory_does_not_hold_two_generations_single_rows_are_compared(
    monkeypatch, tmp_path, fitting, is_batched
):
    monkeypatch.setattr(Knees, "most_in_memory", lambda self, call: fitting)
    engine = Engine("cpu", folder=tmp_path)

    engine.load(SHIPPED)

    (facts,) = engine.facts()
    assert (facts.is_batched, facts.is_reproducible) == (is_batched, False)
    assert "no memory for the rows of two" in facts.reason
    assert "verdict" not in notes_in(tmp_path)


def test_a_knee_that_memory_has_cut_is_measured_again_at_the_next_start(monkeypatch, tmp_path):
    def seconds_of(forwards, call):
        if call.count > 2:
            raise MemoryError
        return 0.01

    monkeypatch.setattr(Forwards, "seconds_of", seconds_of)
    Engine("cpu", folder=tmp_path).load(SHIPPED)
    monkeypatch.setattr(Forwards, "seconds_of", lambda forwards, call: 0.01)
    engine = Engine("cpu", folder=tmp_path)

    engine.load(SHIPPED)

    (facts,) = engine.facts()
    assert set(facts.rows.values()) == {32} and facts.is_reproducible
    assert "verdict" in notes_in(tmp_path)


def test_a_device_that_is_lost_while_a_model_is_examined_is_no_matter_of_the_model(monkeypatch, tmp_path):
    def lose(calls, *, run):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(examination, "judge", lose)

    with pytest.raises(DeviceLost):
        Engine("cpu", folder=tmp_path).load(SHIPPED)
