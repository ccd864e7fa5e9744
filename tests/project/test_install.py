"""deploy/install.py: what it decides, without installing anything."""

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from django.conf import settings

DEPLOY = Path(settings.BASE_DIR) / "deploy"
CUDA_WHEEL = "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl"
CPU_WHEEL = "https://download.pytorch.org/whl/cpu/torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl"


@pytest.fixture
def modules(monkeypatch):
    """The installer's modules, which stand beside each other and not in a package."""
    monkeypatch.syspath_prepend(DEPLOY)
    names = ("quiet_pip", "torch_build", "install")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


@pytest.fixture
def torch_build(modules) -> ModuleType:
    return modules["torch_build"]


@pytest.fixture
def install(modules, monkeypatch, tmp_path) -> ModuleType:
    """install.py, over a project folder of the test's own."""
    module = modules["install"]
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    (tmp_path / "requirements.txt").write_text("Django==5.2.19\ntorch==2.13.0\n")
    (tmp_path / "requirements-dev.txt").write_text("-r requirements.txt\npytest==9.2.0\n")
    return module


@pytest.fixture
def environment(install) -> None:
    """A finished installation."""
    install.PYTHON.parent.mkdir(parents=True)
    install.PYTHON.touch()
    install.stamp("requirements.txt").write_text(install.fingerprint("requirements.txt"))


def test_an_old_python_can_read_as_far_as_the_sentence_that_refuses_it():
    source = (DEPLOY / "install.py").read_text()

    tree = ast.parse(source, feature_version=(3, 6))

    check = next(node for node in tree.body if isinstance(node, ast.If))
    earlier = tree.body[: tree.body.index(check)]
    assert [type(node) for node in earlier] == [ast.Expr, ast.Import]  # the docstring and sys, nothing newer


def test_a_finished_installation_is_not_repeated(install, environment):
    assert install.is_installed("requirements.txt")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("gone", [".venv/bin/python", ".venv/requirements.txt.installed"])
def test_an_installation_that_was_interrupted_or_lost_its_python_is_repeated(install, tmp_path, gone):
    (tmp_path / gone).unlink()

    assert not install.is_installed("requirements.txt")


@pytest.mark.usefixtures("environment")
def test_new_requirements_are_installed(install, tmp_path):
    (tmp_path / "requirements.txt").write_text("Django==5.2.20\ntorch==2.13.0\n")

    assert not install.is_installed("requirements.txt")


@pytest.mark.usefixtures("environment")
def test_another_python_makes_the_environment_anew(install, monkeypatch):
    monkeypatch.setattr(install, "THIS_VERSION", "3.99")

    assert not install.is_installed("requirements.txt")


@pytest.mark.usefixtures("environment")
def test_the_tools_for_development_have_a_stamp_of_their_own(install):
    assert not install.is_installed("requirements-dev.txt")


def test_the_version_of_pytorch_is_the_pinned_one(install):
    assert install.pinned_torch() == "2.13.0"


def test_an_environment_that_does_not_work_has_no_version(install):
    install.PYTHON.parent.mkdir(parents=True)
    install.PYTHON.symlink_to("/no/such/python")

    assert install.environment_version() is None


def test_a_gpu_gets_the_default_build(torch_build):
    build = torch_build.choose("2.13.0", has_gpu=True, default_wheel=CUDA_WHEEL, cpu_wheel=None)

    assert (build.requirement, build.index_url) == ("torch==2.13.0", None)
    assert build.megabytes > 2000


def test_no_gpu_gets_the_small_build_where_pytorchs_index_answers(torch_build):
    build = torch_build.choose("2.13.0", has_gpu=False, default_wheel=CUDA_WHEEL, cpu_wheel=CPU_WHEEL)

    assert (build.requirement, build.index_url) == ("torch==2.13.0+cpu", torch_build.CPU_INDEX)
    assert build.megabytes < 500


def test_no_gpu_and_no_index_gets_the_large_build_and_is_told_so(torch_build):
    build = torch_build.choose("2.13.0", has_gpu=False, default_wheel=CUDA_WHEEL, cpu_wheel=None)

    assert (build.requirement, build.index_url) == ("torch==2.13.0", None)
    assert "cannot be reached" in build.reason


@pytest.mark.parametrize(
    "wheel",
    [
        "/srv/wheels/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl",
        "./wheels/torch-2.13.0-cp311-cp311-linux_x86_64.whl",
        "https://mirror.example.org/torch-2.13.0%2Bcpu-cp311-cp311-linux_x86_64.whl",
        "torch-2.13.0-cp311-none-macosx_14_0_arm64.whl",
    ],
)
def test_a_cpu_build_that_pip_finds_by_itself_is_taken_as_it_is(torch_build, wheel):
    build = torch_build.choose("2.13.0", has_gpu=False, default_wheel=wheel, cpu_wheel=None)

    assert (build.requirement, build.index_url) == ("torch==2.13.0", None)
    assert build.megabytes < 500


def test_a_cpu_build_beside_a_gpu_is_remarked_upon(torch_build):
    build = torch_build.choose("2.13.0", has_gpu=True, default_wheel="/wheels/torch-2.13.0+cpu.whl", cpu_wheel=None)

    assert "leaves the NVIDIA GPU unused" in build.reason


@pytest.mark.parametrize(
    ("line", "wheel"),
    [
        (f"  Downloading {CUDA_WHEEL}.metadata (30 kB)\n", CUDA_WHEEL),
        (f"  Downloading {CUDA_WHEEL} (526.6 MB)\n", CUDA_WHEEL),
        (f"  Using cached {CUDA_WHEEL} (526.6 MB)\n", CUDA_WHEEL),
        (f"  Downloading {CPU_WHEEL} (190.1 MB)\n", CPU_WHEEL),
        ("Processing /my wheels/torch-2.13.0+cpu-cp311.whl\n", "/my wheels/torch-2.13.0+cpu-cp311.whl"),
    ],
)
def test_pips_choice_is_read_from_its_first_word_about_it(torch_build, line, wheel):
    assert torch_build.WHEEL.match(line)[1] == wheel


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("Collecting celery[redis]==5.7.0 (from -r x (line 3))\n", "looking at celery"),
        (
            "  Downloading botocore-1.44.5-py3-none-any.whl (16.6 MB)\n",
            "downloading botocore 1.44.5 (16.6 MB)",
        ),
        (f"  Downloading {CPU_WHEEL} (190.1 MB)\n", "downloading torch 2.13.0+cpu (190.1 MB)"),
        ("Installing collected packages: a, b, c\n", "unpacking 3 packages"),
        ("Requirement already satisfied: a\n", None),
    ],
)
def test_what_pip_says_is_told_in_short(modules, line, text):
    assert modules["quiet_pip"].in_short(line) == text


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("Failed to establish a new connection: NewConnectionError", "cannot reach the package index"),
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: No matching distribution found for torch==9", "does not exist for Python"),
        ("ERROR: something else", "Correct what it says"),
    ],
)
def test_a_failure_of_pips_comes_with_advice(modules, line, sentence):
    assert sentence in modules["quiet_pip"].advice([line])
