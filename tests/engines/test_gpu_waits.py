"""That no step of a denoise loop waits for the GPU; only where there is one."""

from dataclasses import replace

import pytest
import torch

from generation.engines.engine import Engine
from generation.engines.schedulers import SCHEDULERS, compatible_with
from generation.engines.types import Progress
from tests.engines.models import SHIPPED, make_request

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here.")

STEPS = 8
# Ancestral ones draw their noise on the CPU, from the generation's own generator, and send it.
DRAWING = {name for name in SCHEDULERS if "ancestral" in name or "sde" in name or name in ("ddpm", "lcm")}


@pytest.fixture(scope="module")
def engine():
    engine = Engine("cuda:0")
    engine.load(SHIPPED)
    yield engine
    engine.close()


@pytest.mark.parametrize("begin", [None, Progress.copy_state, Progress.start_preview])
@pytest.mark.parametrize("scheduler", ["", *sorted(set(compatible_with("DDIMScheduler")) - DRAWING)])
def test_no_step_waits_for_the_gpu(engine, scheduler, begin):
    request = replace(make_request(), num_inference_steps=STEPS, scheduler=scheduler)
    begun = []

    def look(progress):
        if begin is not None:
            begun.append(begin(progress))

    engine.generate(request, on_step=look)  # what is only done once may wait

    def forbid_waiting(progress):
        if progress.step == 2:
            torch.cuda.set_sync_debug_mode("error")
        look(progress)
        if progress.step == progress.total - 2:
            torch.cuda.set_sync_debug_mode("default")

    try:
        engine.generate(request, on_step=forbid_waiting)
    finally:
        torch.cuda.set_sync_debug_mode("default")
