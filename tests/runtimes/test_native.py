"""The runtime in the worker's own process does what its engine does."""

import numpy as np
import pytest

from generation.engines.errors import ModelUnavailable
from generation.engines.types import ModelSource
from generation.runtimes.base import Runtime
from generation.runtimes.native import NativeRuntime
from tests import measurements
from tests.engines.models import SHIPPED, ignore, make_request, shipped_engine


@pytest.fixture
def runtime():
    runtime: Runtime = NativeRuntime("cpu", folder=measurements.folder())
    yield runtime
    runtime.close()


def test_it_generates_what_the_engine_generates(runtime):
    seen = []

    images = runtime.generate(make_request(), on_step=seen.append)

    assert np.array_equal(images.pixels, shipped_engine().generate(make_request(), on_step=ignore).pixels)
    assert len(seen) == 2


def test_it_loads_and_forgets_models(runtime):
    runtime.load(SHIPPED)
    loaded, schedulers = runtime.loaded, runtime.schedulers(SHIPPED.slug)
    runtime.unload(SHIPPED.slug)

    assert loaded == (SHIPPED.slug,)
    assert schedulers == shipped_engine().schedulers(SHIPPED.slug)
    assert runtime.loaded == ()


def test_it_passes_on_the_engines_errors(runtime):
    with pytest.raises(ModelUnavailable):
        runtime.load(ModelSource(slug="nothing", source="/no/such/folder"))


def test_it_describes_the_engines_device(runtime):
    assert runtime.describe() == shipped_engine().describe()


def test_close_forgets_all_models():
    runtime = NativeRuntime("cpu", folder=measurements.folder())
    runtime.load(SHIPPED)

    runtime.close()

    assert runtime.loaded == ()
