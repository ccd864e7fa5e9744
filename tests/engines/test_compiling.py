"""What is compiled beside the running forwards; only where there is a GPU."""

import threading
import time

import pytest
import torch

from generation.engines import packages
from generation.engines.callee import Callee
from generation.engines.compiling import Compiler
from generation.engines.forwards import Forwards
from generation.engines.knees import OneAtATime
from generation.engines.recording import Pool
from generation.engines.rows import Disassembler
from tests.engines.test_packages import open_unet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here.")

GPU = torch.device("cuda:0")
PATIENCE_SECONDS = 110


@pytest.fixture
def compiler(tmp_path):
    compiler = Compiler(GPU, folder=tmp_path / "compiled")
    yield compiler
    compiler.close()


@pytest.fixture
def call(tmp_path):
    unet = open_unet(tmp_path / "unet").to(GPU)
    sample = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0)).to(GPU)
    callee = Callee.of(unet, name="unet", limits=OneAtATime())
    return Disassembler(callee).take_apart(sample, torch.full((4,), 500.0, device=GPU), return_dict=False)


def wait_until(is_so):
    gives_up_at = time.monotonic() + PATIENCE_SECONDS
    while not (found := is_so()):
        assert time.monotonic() < gives_up_at
        time.sleep(0.05)
    return found


def test_a_forward_is_compiled_once_and_recorded_for_each_number_of_rows(compiler, call):
    compiler.want(call, counts=[2, 4], pool=Pool(GPU))

    recordings = wait_until(lambda: compiler.take(call))

    assert sorted(recordings) == [2, 4]
    with torch.no_grad():
        torch.testing.assert_close(recordings[4].replay(call)[0], call.run()[0], rtol=1e-3, atol=1e-3)


def test_forwards_that_are_examined_stay_uncompiled(call):
    class Ready:
        """Has compiled everything."""

        wanted = 0

        def has(self, call):
            return True

        def want(self, call, *, counts, pool):
            self.wanted += 1

        def take(self, call):
            return {}

    compiler = Ready()
    forwards = Forwards(GPU, compiler=compiler)
    with torch.no_grad():
        with forwards.uncompiled():
            for _ in range(4):
                forwards(call)
        assert compiler.wanted == 0

        for _ in range(2):
            forwards(call)
        assert compiler.wanted == 1


def test_what_is_being_built_ends_when_it_has_to_give_way(compiler, call, monkeypatch):
    is_building, has_ended = threading.Event(), threading.Event()

    def build(call, *, device, file, is_wanted):
        is_building.set()
        while is_wanted():
            time.sleep(0.01)
        has_ended.set()
        raise RuntimeError("it is not wanted any more")

    monkeypatch.setattr(packages, "build", build)
    compiler.want(call, counts=[2], pool=Pool(GPU))
    assert is_building.wait(PATIENCE_SECONDS)

    assert compiler.give_way() and has_ended.is_set()


def test_nothing_gives_way_where_nothing_is_being_built(compiler):
    assert not compiler.give_way()
