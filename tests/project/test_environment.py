"""A mistake in the configuration ends as one sentence, not as a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from project.environment import Environment, read_dotenv


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PICTOR_PORT", "eight", "PICTOR_PORT='eight' is not a valid int."),
        ("PICTOR_DEBUG", "maybe", "PICTOR_DEBUG='maybe' is neither true nor false."),
        ("PICTOR_IMAGE_DELIVERY", "post", "is not one of stream, redirect."),
    ],
)
def test_manage_py_names_the_setting_that_is_wrong(name, value, sentence):
    result = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=settings.BASE_DIR,
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def dotenv(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_text(text)
    return path


def test_a_line_of_dotenv_that_assigns_nothing_is_named(tmp_path):
    path = dotenv(tmp_path, "# comment\n\nPICTOR_PORT 8001\n")

    with pytest.raises(ImproperlyConfigured, match="line 3, is not NAME=value: 'PICTOR_PORT 8001'"):
        read_dotenv(path)


def test_a_dotenv_that_is_no_text_is_named(tmp_path):
    path = tmp_path / ".env"
    path.write_bytes(b"\xff\xfe")

    with pytest.raises(ImproperlyConfigured, match="cannot be read as UTF-8"):
        read_dotenv(path)


def test_dotenv_gives_way_to_the_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {"PICTOR_A": "from the environment"})
    monkeypatch.setattr("environ.Env.ENVIRON", os.environ)

    read_dotenv(dotenv(tmp_path, "PICTOR_A=from the file\nPICTOR_B=from the file\n"))

    assert os.environ == {"PICTOR_A": "from the environment", "PICTOR_B": "from the file"}


@pytest.mark.parametrize(
    ("text", "expected"), [("yes", True), ("1", True), ("False", False), ("off", False), ("", False)]
)
def test_yes_and_no_have_many_spellings(monkeypatch, text, expected):
    monkeypatch.setenv("PICTOR_TEST_SWITCH", text)

    assert Environment().bool("PICTOR_TEST_SWITCH", default=True) is expected


def test_a_name_that_no_setting_reads_is_found(monkeypatch):
    environment = Environment()
    environment.str("PICTOR_TEST_KNOWN", default="")
    monkeypatch.setattr(environment, "ENVIRON", {"PICTOR_TEST_KNOWN": "", "PICTOR_TEST_KNOWM": "", "HOME": "/"})

    assert environment.unknown_names(prefix="PICTOR_TEST") == ["PICTOR_TEST_KNOWM"]
