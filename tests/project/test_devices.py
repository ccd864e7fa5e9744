"""What `--devices` means."""

import pytest

from project.devices import UnknownDevice, detect_devices


def labels(spec: str, *, gpus: int) -> list[str]:
    return [device.label for device in detect_devices(spec, count_gpus=lambda: gpus)]


@pytest.fixture(autouse=True)
def no_gpus_are_hidden(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("spec", "gpus", "expected"),
    [
        ("auto", 2, ["gpu0", "gpu1"]),
        ("auto", 0, ["cpu0"]),
        ("cpu:2", 4, ["cpu0", "cpu1"]),
        ("0,1", 4, ["gpu0", "gpu1"]),
        ("3", 4, ["gpu3"]),
        ("1, 0", 2, ["gpu1", "gpu0"]),
    ],
)
def test_a_specification_names_devices(spec, gpus, expected):
    assert labels(spec, gpus=gpus) == expected


@pytest.mark.parametrize("spec", ["", "gpu0", "cpu", "cpu:0", "cpu:-1", "cpu:1000", "0,", "all", "0;1"])
def test_anything_else_is_refused_with_the_three_ways_to_write_it(spec):
    with pytest.raises(UnknownDevice, match=r"auto, cpu:2 .* 0,1"):
        labels(spec, gpus=2)


def test_a_gpu_that_does_not_exist_is_refused():
    with pytest.raises(UnknownDevice, match=r"no GPU 2\. This machine has 2, numbered from 0"):
        labels("0,2", gpus=2)


def test_a_gpu_on_a_machine_without_one_is_refused():
    with pytest.raises(UnknownDevice, match=r"no NVIDIA GPU\. Use cpu:1, or auto"):
        labels("0", gpus=0)


def test_a_gpu_that_is_named_twice_is_refused():
    with pytest.raises(UnknownDevice, match="named twice"):
        labels("0,0", gpus=1)


@pytest.mark.parametrize(("visible", "expected"), [("1", ["gpu1"]), ("", ["cpu0"]), ("0,2", ["gpu0", "gpu2"])])
def test_auto_respects_gpus_that_are_hidden_from_this_process(monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert labels("auto", gpus=3) == expected
