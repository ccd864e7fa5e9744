"""What happens once, when a model is first loaded, on the CPU."""

from generation.engines.engine import Engine
from generation.engines.knees import Knees
from tests.engines.models import SHIPPED


def test_where_memory_does_not_hold_two_generations_a_model_is_unbatched_until_the_next_start(monkeypatch, tmp_path):
    monkeypatch.setattr(Knees, "most_in_memory", lambda self, call: 1)
    engine = Engine("cpu", folder=tmp_path)

    engine.load(SHIPPED)

    (facts,) = engine.facts()
    assert not facts.is_batched
    assert "no memory for the rows of two" in facts.reason
    assert not any("verdict" in file.read_text() for file in tmp_path.iterdir())
