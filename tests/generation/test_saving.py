"""When a state is saved, and which state is of any use."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from generation import saved_states, saving
from generation.engines.errors import UnusableState
from generation.engines.types import ImageRequest, ModelSource, Progress
from generation.models import Device
from generation.saving import Found, Rhythm, Saving, mark_of, seal, unseal
from tests.fakes import StateOffer

REQUEST = ImageRequest(
    model=ModelSource(slug="apples", source="weights/apples"),
    prompt="a red apple",
    negative_prompt="",
    width=64,
    height=64,
    num_inference_steps=9,
    guidance_scale=4.5,
    seed=7,
    num_images=1,
    scheduler="",
)
HERE = Device(kind="cpu", name="A processor")
ELSEWHERE = Device(kind="cuda", name="A graphics card")


class Shelf(dict):
    """Takes the place of Redis and the storage: the newest state of each generation."""

    def keep(self, generation_id, data, *, step):
        self[generation_id] = (step, data)

    def find(self, generation_id):
        return [self[generation_id][1]] if generation_id in self else []

    def forget(self, generation_id):
        self.pop(generation_id, None)

    def step_of(self, generation_id):
        return self.get(generation_id, (None,))[0]


@pytest.fixture
def shelf(monkeypatch):
    """Where states are kept."""
    shelf = Shelf()
    for name in ("keep", "find", "forget"):
        monkeypatch.setattr(saved_states, name, getattr(shelf, name))
    return shelf


def make_saving(request: ImageRequest = REQUEST, *, device: Device = HERE) -> Saving:
    return Saving("id", request, device=device)


def at(step: int, *, latent: float = 0.5) -> Progress:
    return Progress(step=step, total=9, offers=StateOffer(step, 9, latent=latent))


def make_state(step: int = 3):
    return at(step).save()


def test_a_short_generation_is_never_saved():
    rhythm = Rhythm(seconds=5)

    assert not any(rhythm.is_due(now=now) for now in (100, 102, 104.9))


def test_a_longer_one_is_saved_every_so_many_seconds():
    rhythm = Rhythm(seconds=5)
    saved_at = []

    for now in range(100, 120):
        if rhythm.is_due(now=now):
            saved_at.append(now)
            rhythm.note(began=now, ended=now)

    assert saved_at == [105, 110, 115]


def test_copies_that_take_long_are_taken_so_seldom_that_they_cost_a_hundredth_of_the_time():
    rhythm = Rhythm(seconds=5)
    rhythm.is_due(now=0)

    rhythm.note(began=5, ended=6)

    assert not rhythm.is_due(now=104.9)
    assert rhythm.is_due(now=105)


def test_a_state_is_put_away_while_the_run_goes_on(shelf, settings):
    settings.SAVE_SECONDS = 1e-9
    run = make_saving()

    run.on_step(at(1))
    run.on_step(at(2))
    run.wait()

    assert (shelf.step_of("id"), run.saved_step) == (2, 2)


def test_a_state_that_is_still_being_put_away_is_not_overtaken(shelf, settings, monkeypatch):
    settings.SAVE_SECONDS = 1e-9
    monkeypatch.setattr(saving, "SHARE", 1e9)
    may_go_on = threading.Event()

    def take_long(*arguments, **options):
        may_go_on.wait(60)
        shelf.keep(*arguments, **options)

    monkeypatch.setattr(saved_states, "keep", take_long)
    run = make_saving()
    for step in (1, 2, 3):  # no state at the first, which only begins the count
        run.on_step(at(step))
    may_go_on.set()
    run.wait()

    assert shelf.step_of("id") == 2


def test_who_hands_over_saves_that_very_step_and_waits_for_it(shelf, settings):
    settings.SAVE_SECONDS = 60
    run = make_saving()

    run.hand_over(at(4))

    assert (shelf.step_of("id"), run.saved_step) == (4, 4)


def test_a_state_that_comes_with_the_one_handed_over_is_not_waited_for_before(shelf, settings, monkeypatch):
    monkeypatch.setattr(saving, "PATIENCE_SECONDS", 600)
    settings.SAVE_SECONDS = 0.000001
    is_read = threading.Event()  # as by the one thread that hears what a model server says

    class FromAfar(StateOffer):
        def copy_state(self):
            copy, wait = StateOffer.copy_state(self), is_read.set if self.step == 3 else is_read.wait
            return lambda: (wait(), copy())[1]

    run = make_saving()
    for step in (1, 2):  # no state at the first, which only begins the count
        run.on_step(Progress(step=step, total=9, offers=FromAfar(step, 9)))

    run.hand_over(Progress(step=3, total=9, offers=FromAfar(3, 9)))

    assert (shelf.step_of("id"), run.saved_step) == (3, 3)


@pytest.mark.parametrize("step", ["on_step", "hand_over"])
def test_with_the_setting_at_zero_nothing_is_saved(shelf, settings, step):
    settings.SAVE_SECONDS = 0
    run = make_saving()

    getattr(run, step)(at(4))
    run.wait()

    assert shelf == {}


def test_with_the_setting_at_zero_nothing_is_looked_for(shelf, settings):
    make_saving().hand_over(at(4))
    settings.SAVE_SECONDS = 0

    assert make_saving().find(saved_step=4) == Found()


def test_a_state_without_numbers_is_not_kept(shelf):
    run = make_saving()
    run.hand_over(at(3))

    run.hand_over(at(4, latent=float("nan")))

    assert (shelf.step_of("id"), run.saved_step) == (3, 3)


def test_a_step_without_state_keeps_nothing(shelf):
    run = make_saving()

    run.hand_over(Progress(step=4, total=9))
    run.hand_over(at(9))

    assert shelf == {}


def test_what_fails_while_saving_ends_no_run(shelf, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("away")

    monkeypatch.setattr(StateOffer, "copy_state", fail)
    make_saving().hand_over(at(4))
    monkeypatch.undo()
    monkeypatch.setattr(saved_states, "keep", fail)
    run = make_saving()
    run.hand_over(at(4))

    assert run.saved_step == 0


def test_the_next_attempt_finds_the_state(shelf):
    make_saving().hand_over(at(4))
    run = make_saving()

    found = run.find(saved_step=4)

    assert (found.step, found.note, run.saved_step) == (4, "", 4)


def test_a_state_that_is_gone_leaves_a_note(shelf):
    found = make_saving().find(saved_step=4)

    assert (found.step, found.note) == (0, "The state after step 4 was not found.")


def test_where_nothing_was_saved_there_is_nothing_to_note(shelf):
    assert make_saving().find(saved_step=0) == Found()


def test_a_broken_state_leaves_a_note(shelf):
    shelf.keep("id", b"garbage", step=4)

    found = make_saving().find(saved_step=4)

    assert (found.step, "cannot be read" in found.note) == (0, True)


def test_a_good_state_counts_even_beside_a_broken_one(shelf, monkeypatch):
    states = [b"garbage", seal(make_state(3), mark=make_saving().mark), seal(make_state(5), mark=make_saving().mark)]
    monkeypatch.setattr(saved_states, "find", lambda generation_id: states)

    assert make_saving().find(saved_step=5).step == 5


def test_what_is_forgotten_is_removed_after_it_was_put_away(shelf, settings):
    settings.SAVE_SECONDS = 1e-9
    run = make_saving()
    run.on_step(at(1))
    run.on_step(at(2))

    run.forget()
    run.wait()

    assert shelf == {}


def test_a_sealed_state_comes_back_as_it_was():
    state = make_state()

    again = unseal(seal(state, mark="mark"), mark="mark")

    assert (again.step, again.total, again.to_bytes()) == (state.step, state.total, state.to_bytes())


@pytest.mark.parametrize(
    "spoil", [lambda data: b"", lambda data: b"{}\n", lambda data: data[:-1], lambda data: data[:-1] + b"\0"]
)
def test_a_spoiled_state_is_unusable(spoil):
    data = seal(make_state(), mark="mark")

    with pytest.raises(UnusableState):
        unseal(spoil(data), mark="mark")


def test_a_state_of_another_request_is_unusable():
    data = seal(make_state(), mark="mark")

    with pytest.raises(UnusableState, match="not one of this request"):
        unseal(data, mark="another")


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a green apple"},
        {"seed": 8},
        {"num_images": 2},
        {"width": 128},
        {"model": ModelSource(slug="apples", source="weights/other")},
        {"model": ModelSource(slug="apples", source="weights/apples", dtype="float16")},
        {"image": np.zeros((4, 4, 3), dtype=np.uint8)},
        {"references": (np.zeros((4, 4, 3), dtype=np.uint8),)},
    ],
)
def test_another_request_has_another_mark(changes):
    assert mark_of(replace(REQUEST, **changes), device=HERE) != mark_of(REQUEST, device=HERE)


def test_other_pixels_have_another_mark():
    dark, bright = (np.full((4, 4, 3), value, dtype=np.uint8) for value in (0, 255))

    marks = {mark_of(replace(REQUEST, image=picture), device=HERE) for picture in (dark, bright)}

    assert len(marks) == 2


def test_a_request_can_go_on_on_any_device():
    assert mark_of(REQUEST, device=HERE) == mark_of(REQUEST, device=ELSEWHERE)


def test_one_that_is_to_be_reproducible_goes_on_only_on_the_same_kind_of_device():
    request = replace(REQUEST, is_reproducible=True)

    assert mark_of(request, device=HERE) != mark_of(request, device=ELSEWHERE)
