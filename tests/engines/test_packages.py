"""Forwards compiled ahead of time: the same answers for any number of rows, with the module's own weights."""

import copy
import fcntl
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref

import pytest
import torch
from diffusers import UNet2DModel

from generation.engines import packages
from generation.engines.callee import Callee
from generation.engines.compiling import Probe
from generation.engines.knees import OneAtATime
from generation.engines.rows import Call, Disassembler

CPU = torch.device("cpu")
pytestmark = pytest.mark.timeout(300)  # compilers are at work, behind everybody else


def open_unet(folder):
    """A UNet that diffusers finds in the folder."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=2,
        out_channels=2,
        block_out_channels=(4,),
        layers_per_block=1,
        norm_num_groups=2,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        add_attention=False,
    )
    unet.save_pretrained(folder)
    return packages.lay_out(UNet2DModel.from_pretrained(folder, use_safetensors=True).eval())


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    return open_unet(tmp_path_factory.mktemp("unet"))


@pytest.fixture(scope="module")
def package(unet, tmp_path_factory):
    """Compiled once for all tests: it takes a C++ compiler a while."""
    file = tmp_path_factory.mktemp("packages") / "unet.pt2"
    packages.build(ask(unet, count=4), device=CPU, file=file, is_wanted=lambda: True)
    return file


def ask(unet, *, count) -> Call:
    callee = Callee.of(unet, name="unet", limits=OneAtATime())
    sample = torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(count))
    return Disassembler(callee).take_apart(sample, torch.full((count,), 500.0), return_dict=False)


def run(call):
    with torch.no_grad():
        return call.run()[0]


def end_a_process_that_loads(file):
    """As a crash inside of a package would."""
    code = "import os, sys; from pathlib import Path; import torch._inductor; from generation.engines import packages\n"
    code += "torch._inductor.aoti_load_package = lambda *_, **__: os.kill(os.getpid(), 9)\n"
    code += "packages.load(Path(sys.argv[1]), function=None, device=packages.torch.device('cpu'))"
    ended = subprocess.run([sys.executable, "-c", code, str(file)])
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("count", [2, 3, 32])
def test_a_package_gives_what_the_module_gives_for_any_number_of_rows(unet, package, count):
    compiled = packages.load(package, function=unet, device=CPU)

    call = ask(unet, count=count)

    torch.testing.assert_close(run(call.to(compiled)), run(call), rtol=1e-4, atol=1e-4)


def test_a_package_is_near_enough_to_the_module_to_be_used(unet, package):
    with torch.no_grad():
        probe = Probe(ask(unet, count=4), least_rows=2)
        errors = [
            probe.error_of(probe.call(count).to(packages.load(package, function=unet, device=CPU))) for count in (2, 8)
        ]

    assert max(errors) <= probe.tolerated_error


def test_a_package_that_was_loaded_stays_for_the_graphs_that_replay_its_kernels(unet, package):
    compiled = weakref.ref(packages.load(package, function=unet, device=CPU))

    gc.collect()

    assert compiled() is not None


def test_the_weights_that_a_package_computes_with_go_with_their_module(unet, package):
    other = copy.deepcopy(unet)  # whose weights are no pages of a file
    weight = other.conv_in.weight.untyped_storage()
    packages.load(package, function=other, device=CPU)

    del other
    gc.collect()

    assert weight.nbytes() == 0


def test_a_package_that_was_damaged_is_removed(unet, package, tmp_path):
    file = tmp_path / "unet.pt2"
    file.write_bytes(package.read_bytes()[:1000])

    with pytest.raises(RuntimeError):
        packages.load(file, function=unet, device=CPU)

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_build_has_left_is_removed_by_a_later_one(unet, package, tmp_path):
    for name in ("building-old", "building-new"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "building-old", (0, 0))
    shutil.copy(package, tmp_path / "unet.pt2")

    packages.build(ask(unet, count=4), device=CPU, file=tmp_path / "unet.pt2", is_wanted=lambda: True)

    assert [folder.name for folder in tmp_path.glob("building-*")] == ["building-new"]


def test_a_package_computes_with_the_weights_of_the_module(unet, package):
    compiled = packages.load(package, function=unet, device=CPU)
    call = ask(unet, count=2)
    before = run(call.to(compiled))

    with torch.no_grad():
        unet.conv_out.bias.add_(1.0)

    torch.testing.assert_close(run(call.to(compiled)), before + 1.0, rtol=1e-4, atol=1e-4)


def test_a_package_that_has_ended_two_processes_which_loaded_it_is_not_loaded_again(unet, package, tmp_path):
    file = shutil.copy(package, tmp_path / "unet.pt2")
    end_a_process_that_loads(file)
    end_a_process_that_loads(file)

    with pytest.raises(RuntimeError, match="ended workers"):
        packages.load(file, function=unet, device=CPU)


def test_a_package_whose_loading_was_ended_once_counts_as_sound_when_it_is_loaded(unet, package, tmp_path):
    file = shutil.copy(package, tmp_path / "unet.pt2")
    end_a_process_that_loads(file)

    packages.load(file, function=unet, device=CPU)

    assert list(tmp_path.iterdir()) == [file]


def test_a_package_is_loaded_where_nothing_can_be_written(unet, package, tmp_path):
    file = shutil.copy(package, tmp_path / "unet.pt2")
    file.with_suffix(".loading").mkdir()  # opens for nobody, not even for root

    assert packages.load(file, function=unet, device=CPU)


def test_a_package_that_another_process_is_loading_is_loaded_too(unet, package, tmp_path):
    file = shutil.copy(package, tmp_path / "unet.pt2")
    with file.with_suffix(".loading").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)

        packages.load(file, function=unet, device=CPU)

    assert not file.with_suffix(".loading").exists()


def test_what_is_not_wanted_any_more_is_not_compiled_to_its_end(unet, tmp_path):
    file = tmp_path / "unet.pt2"

    with pytest.raises(RuntimeError):
        packages.build(ask(unet, count=4), device=CPU, file=file, is_wanted=lambda: False)

    assert list(tmp_path.glob("building-*")) == [] and not file.exists()


def test_what_another_process_builds_is_waited_for_and_not_built_again(unet, package, tmp_path):
    file = tmp_path / "unet.pt2"
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waits = threading.Event()

        def is_wanted():
            waits.set()
            return True

        arguments = {"device": CPU, "file": file, "is_wanted": is_wanted}
        waiter = threading.Thread(target=packages.build, args=[ask(unet, count=4)], kwargs=arguments)
        waiter.start()
        assert waits.wait(30)
        shutil.copy(package, file)
    waiter.join(30)

    assert not waiter.is_alive() and file.read_bytes() == package.read_bytes()


def test_what_cannot_be_compiled_says_why_in_one_line(tmp_path):
    unet = open_unet(tmp_path / "unet")
    shutil.rmtree(tmp_path / "unet")

    with pytest.raises(RuntimeError, match=str(tmp_path / "unet")) as raised:
        packages.build(ask(unet, count=4), device=CPU, file=tmp_path / "unet.pt2", is_wanted=lambda: True)

    assert "\n" not in str(raised.value)
