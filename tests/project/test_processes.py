"""How the processes of Pictor are started."""

import pytest
from django.conf import settings

from generation.dispatch import IO_QUEUE
from project import devices, processes
from project.devices import DeviceSlot


def test_a_gpu_worker_sees_its_own_gpu_only():
    worker = processes.device_specs([DeviceSlot("gpu", 0), DeviceSlot("gpu", 1)])[1][1]

    assert worker.env["PICTOR_DEVICE"] == "gpu1"
    assert worker.env["CUDA_VISIBLE_DEVICES"] == "1"
    assert "OMP_NUM_THREADS" not in worker.env


def test_cpu_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr(devices, "count_cores", lambda: 8)

    _, workers = processes.device_specs([DeviceSlot("cpu", index) for index in range(3)])

    assert [worker.env["OMP_NUM_THREADS"] for worker in workers] == ["2", "2", "2"]
    assert {worker.env["CUDA_VISIBLE_DEVICES"] for worker in workers} == {""}


def test_more_cpu_workers_than_cores_get_a_thread_each(monkeypatch):
    monkeypatch.setattr(devices, "count_cores", lambda: 1)

    _, workers = processes.device_specs([DeviceSlot("cpu", index) for index in range(2)])

    assert [worker.env["OMP_NUM_THREADS"] for worker in workers] == ["1", "1"]


def test_how_threads_of_a_cpu_wait_is_left_to_an_operator_who_has_set_it(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")

    assert "GOMP_SPINCOUNT" not in devices.openmp_env(workers=1)

    monkeypatch.delenv("OMP_WAIT_POLICY")

    assert devices.openmp_env(workers=1)["OMP_WAIT_POLICY"] == "ACTIVE"


def test_without_a_remote_runtime_there_is_no_model_server():
    servers, _ = processes.device_specs([DeviceSlot("cpu", 0)])

    assert servers == []


@pytest.mark.parametrize("runtime", ["http", "uds"])
def test_a_remote_runtime_gets_a_model_server_whose_address_only_its_worker_knows(settings, runtime):
    settings.RUNTIME = f"native,cpu1={runtime}"

    servers, workers = processes.device_specs([DeviceSlot("cpu", 0), DeviceSlot("cpu", 1)])

    assert [server.name for server in servers] == ["server cpu1"]
    assert "PICTOR_RUNTIME_ADDRESS" not in workers[0].env
    assert workers[1].env["PICTOR_RUNTIME"] == runtime
    assert workers[1].env["PICTOR_RUNTIME_ADDRESS"].removeprefix("http://") in servers[0].argv
    assert workers[1].env["PICTOR_RUNTIME_TOKEN"] == servers[0].env["PICTOR_RUNTIME_TOKEN"]
    assert workers[1].env["PICTOR_RUNTIME_TOKEN"] not in " ".join(servers[0].argv)


def test_a_server_that_the_settings_name_is_not_started_here(settings):
    settings.RUNTIME, settings.RUNTIME_ADDRESS = "http", "http://gpu.example:9000"

    servers, _ = processes.device_specs([DeviceSlot("cpu", 0)])

    assert servers == []


def test_webhooks_are_sent_by_a_worker_that_takes_nothing_else_and_has_no_device():
    io = processes.io_spec()

    assert io.argv[io.argv.index("--queues") + 1] == IO_QUEUE
    assert "PICTOR_DEVICE" not in io.env


def test_flowers_password_is_on_no_command_line():
    flower = processes.flower_spec()

    password = (settings.CREDENTIALS_DIR / "flower_password").read_text().strip()
    assert flower.env["FLOWER_BASIC_AUTH"] == f"admin:{password}"
    assert password not in " ".join(flower.argv)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("10.1.2.3", "http://10.1.2.3:8000"),
    ],
)
def test_the_service_is_reached_locally_whatever_it_listens_on(settings, host, url):
    settings.HOST = host

    assert processes.local_url(8000) == url


@pytest.mark.parametrize(
    ("allowed", "headers"),
    [
        (["127.0.0.1", "localhost"], {}),
        (["*"], {}),
        (["pictor.example.org"], {"Host": "pictor.example.org"}),
        ([".example.org"], {"Host": "example.org"}),
    ],
)
def test_local_requests_carry_a_host_that_the_service_accepts(settings, allowed, headers):
    settings.ALLOWED_HOSTS = allowed

    assert processes.host_headers() == headers


def test_the_web_process_waits_less_for_a_dead_broker_than_a_worker():
    assert processes.web_spec(port=8000).env == {"PICTOR_BROKER_TIMEOUT_SECONDS": "0.9"}
    assert "PICTOR_BROKER_TIMEOUT_SECONDS" not in processes.housekeeper_spec().env


def test_the_operators_own_time_for_the_broker_counts_everywhere(monkeypatch):
    monkeypatch.setenv("PICTOR_BROKER_TIMEOUT_SECONDS", "9")

    assert processes.web_spec(port=8000).env == {}
