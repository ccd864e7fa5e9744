"""From wishes to parameters: defaults, limits, and a sentence for whatever cannot be."""

import pytest

from generation.errors import InvalidParameters
from generation.parameters import Wishes, resolve
from tests import factories

pytestmark = pytest.mark.django_db


def resolved(**wishes):
    return resolve(Wishes(**{"prompt": "a red apple", **wishes}), draw_seed=lambda: 42)


def faults_of(**wishes):
    with pytest.raises(InvalidParameters) as caught:
        resolved(**wishes)
    return caught.value.fields


def test_what_is_left_out_is_as_the_model_has_it(model):
    parameters = resolved()

    assert parameters.model == model
    assert (parameters.width, parameters.height) == (model.default_width, model.default_height)
    assert parameters.num_inference_steps == model.default_num_inference_steps
    assert parameters.guidance_scale == model.default_guidance_scale


def test_a_seed_that_is_not_given_is_drawn(model):
    assert resolved().seed == 42
    assert resolved(seed=0).seed == 0


def test_a_model_that_is_disabled_is_as_good_as_unknown(model):
    factories.make_model(slug="secret", is_enabled=False, is_default=False)

    assert "There is no model 'secret'" in faults_of(model="secret")["model"]


def test_without_any_enabled_model_the_sentence_says_so(db):
    assert "No model is enabled" in faults_of()["model"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", "   "),
        ("prompt", "x" * 2001),
        ("prompt", "a\x00b"),
        ("negative_prompt", "x" * 2001),
        ("width", 100),
        ("width", 0),
        ("height", 4096),
        ("num_inference_steps", 0),
        ("num_inference_steps", -3),
        ("num_inference_steps", 10_000),
        ("guidance_scale", -1.0),
        ("guidance_scale", float("nan")),
        ("guidance_scale", float("inf")),
        ("seed", -1),
        ("seed", 2**32),
        ("num_images", 0),
        ("num_images", 99),
        ("scheduler", "magic"),
        ("scheduler", "flow_match_euler"),
        ("image_format", "bmp"),
        ("priority", 5),
    ],
)
def test_a_parameter_out_of_bounds_is_named(model, name, value):
    assert list(faults_of(**{name: value})) == [name]


def test_the_seed_of_the_last_image_is_within_bounds_too(model):
    assert resolved(seed=2**32 - 1).seed == 2**32 - 1
    assert list(faults_of(seed=2**32 - 1, num_images=2)) == ["seed"]


def test_all_that_is_wrong_is_named_at_once(model):
    assert set(faults_of(prompt="", width=7, seed=-5)) == {"prompt", "width", "seed"}
