"""What the web process imports must stay light, and an engine safe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "diffusers", "transformers", "numpy", "django", "celery"}


@pytest.mark.parametrize(
    "module",
    [
        "generation.engines.abilities",
        "generation.engines.types",
        "generation.engines.errors",
        "generation.engines.schedulers",
        "generation.runtimes.base",
        "generation.runtimes.native",
    ],
)
def test_a_light_module_imports_nothing_heavy(module):
    program = f"import sys, {module}; print(sorted({HEAVY} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_where_an_engine_is_diffusers_runs_no_code_of_a_model_and_nobody_asks_for_torchvision():
    program = "import generation.engines.engine; from diffusers.utils import constants\n"
    program += "print(constants.DIFFUSERS_DISABLE_REMOTE_CODE)"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DIFFUSERS", "TRANSFORMERS"))}

    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "True"
    assert "torchvision" not in done.stderr
