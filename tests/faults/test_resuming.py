"""Generations that go on elsewhere from the last step that was saved: in Redis, and on the storage beside RabbitMQ."""

import signal

import pytest

from generation.lifecycle import FINISHED, Outcome, Status
from tests.faults.cluster import LONG, SMALL, Cluster
from tests.faults.conftest import on_every_broker

SEEDED = {"seed": 7}
TWELVE_STEPS = SMALL | SEEDED | {"num_inference_steps": 12}


def digests(generation: dict) -> list[str]:
    """The SHA-256 of each image."""
    return [image["sha256"] for image in generation["images"]]


def starts_and_ends(cluster: Cluster, generation: dict) -> list[tuple[int | None, int | None]]:
    """The step that each attempt went on from, and the one at which it ended."""
    rows = f"Attempt.objects.filter(generation={generation['id']!r}).order_by('number')"
    return [tuple(pair) for pair in cluster.ask(f"list({rows}.values_list('resumed_from_step', 'step'))")]


@on_every_broker
@pytest.mark.parametrize(
    ("kills", "wishes"),
    [((3, 6), {}), ((9, 12), {"scheduler": "dpmpp_2m_sde", "num_images": 2, "reproducible": True})],
)
def test_a_kill_at_every_third_step_changes_no_bit_of_the_picture(cluster, kills, wishes):
    request = TWELVE_STEPS | wishes
    uninterrupted = cluster.wait(cluster.submit(**request))
    for step in kills:
        cluster.order(f"step-{step}", "SIGKILL")

    generation = cluster.submit(**request)
    cluster.until(lambda: cluster.mend() or cluster.look(generation)["status"] == Status.SUCCEEDED)

    ended = cluster.look(generation)
    assert cluster.outcomes(generation) == [Outcome.LOST, Outcome.LOST, Outcome.SUCCEEDED]
    assert digests(ended) == digests(uninterrupted)
    assert 0 < ended["resumed_from_step"] < kills[-1]


@on_every_broker
def test_a_polite_stop_loses_no_step_and_changes_no_bit_of_the_picture(cluster):
    uninterrupted = cluster.wait(cluster.submit(**LONG | SEEDED))
    generation, worker = cluster.start_one(**SEEDED)

    cluster.kill(worker, signal.SIGTERM)
    assert cluster.wait_for_end(worker) == 0
    seen: list[int] = []
    ended = cluster.wait(
        generation, until=lambda now: seen.append(now["progress"]["step"]) or now["status"] in FINISHED
    )

    (_, stopped_at), (went_on_from, ended_at) = starts_and_ends(cluster, generation)
    assert cluster.outcomes(generation) == [Outcome.RELEASED, Outcome.SUCCEEDED]
    assert (went_on_from, ended_at) == (stopped_at, LONG["num_inference_steps"])
    assert seen == sorted(seen), "progress never goes back"
    assert digests(ended) == digests(uninterrupted)
    kept = f"list(saved_states.find(Generation.objects.get(pk={generation['id']!r}).pk))"
    cluster.until(lambda: cluster.ask(kept) == [])


def test_a_generation_whose_saved_state_is_lost_starts_over(cluster):
    generation, worker = cluster.start_one()
    cluster.until(lambda: cluster.ask(f"Generation.objects.get(pk={generation['id']!r}).saved_step") > 0)

    cluster.kill(worker)
    cluster.wait_for_end(worker)
    cluster.redis.client.flushall()

    ended = cluster.wait(generation)
    assert (ended["status"], ended["resumed_from_step"]) == (Status.SUCCEEDED, None)
    assert "was not found" in cluster.ask(f"Attempt.objects.get(generation={generation['id']!r}, number=2).start_note")
