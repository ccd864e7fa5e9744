"""The commands `up`, `workers` and `picture`: an expected mistake ends as one sentence that says what to do."""

import socket

import pytest
from django.core.management import CommandError, call_command

from project.instance import LOCK, claim


def test_up_says_which_port_is_taken_and_how_to_choose_another():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(CommandError) as raised:
            call_command("up", port=port, devices="cpu:1", skip_checks=True)

    advice = f"make run PORT={port + 1}"
    assert str(raised.value) == f"Port {port} is in use. Stop the program that uses it or choose another: {advice}"


def test_up_beside_a_running_one_says_where_that_is():
    with (
        claim(LOCK, url="http://127.0.0.1:8000"),
        pytest.raises(CommandError, match=r"already running at http://127\.0\.0\.1:8000"),
    ):
        call_command("up", devices="cpu:1", skip_checks=True)


def test_up_on_an_address_of_another_machine_names_the_setting(settings):
    settings.HOST = "192.0.2.1"

    with pytest.raises(CommandError, match=r"no address '192\.0\.2\.1'\. Correct PICTOR_HOST"):
        call_command("up", devices="cpu:1", skip_checks=True)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_up_refuses_a_port_that_cannot_be(port):
    with pytest.raises(CommandError, match=f"There is no port {port}"):
        call_command("up", port=port, devices="cpu:1", skip_checks=True)


@pytest.mark.parametrize("command", ["up", "workers"])
def test_devices_that_do_not_exist_are_refused(command):
    with pytest.raises(CommandError, match="'gpu9' names no devices"):
        call_command(command, devices="gpu9", skip_checks=True)


def test_a_picture_of_nothing_is_refused():
    with pytest.raises(CommandError, match='make picture PROMPT="a blue whale"'):
        call_command("picture", " ")
