"""Single numbers of a scheduler stay in main memory."""

import pytest
import torch

from generation.engines.host_scalars import HostScalars, keep_scalars_on_host
from generation.engines.schedulers import build
from tests.engines.test_schedulers import make_flow_pipe, make_pipe

ELSEWHERE = torch.device("meta")


def take_steps(scheduler, *, device="cpu"):
    scheduler.set_timesteps(4, device="cpu")
    latents = torch.ones(1, 4, 8, 8, device=device)
    for timestep in scheduler.timesteps:
        latents = scheduler.step(0.1 * latents, timestep, latents, return_dict=False)[0]
    return latents


def test_a_number_stays_where_it_is_whatever_device_it_is_sent_to():
    with HostScalars():
        assert torch.tensor(3.0).to(ELSEWHERE).device.type == "cpu"


def test_a_number_is_made_in_main_memory_whatever_device_is_asked_for():
    with HostScalars():
        assert torch.ones((), device=ELSEWHERE).device.type == "cpu"


def test_what_has_a_dimension_goes_where_it_is_sent():
    with HostScalars():
        assert torch.ones(2).to(ELSEWHERE).device == ELSEWHERE


def test_the_steps_of_unipc_are_the_same_to_the_last_bit():
    scheduler, plain = (build("unipc", pipe=make_pipe()) for _ in range(2))

    keep_scalars_on_host(scheduler)

    assert torch.equal(take_steps(scheduler), take_steps(plain))


@pytest.mark.parametrize(("name", "make"), [("unipc", make_pipe), ("flow_match_unipc", make_flow_pipe)])
def test_unipc_solves_its_equations_in_main_memory_wherever_the_latents_are(name, make, monkeypatch):
    scheduler = build(name, pipe=make())
    places = []
    solve = torch.linalg.solve
    monkeypatch.setattr(torch.linalg, "solve", lambda a, b: places.append(a.device.type) or solve(a, b))

    keep_scalars_on_host(scheduler)
    take_steps(scheduler, device=ELSEWHERE)

    assert set(places) == {"cpu"}
