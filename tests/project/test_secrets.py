"""Secrets in files."""

import subprocess
import sys

from django.conf import settings

from project.secrets import read_or_create, write


def test_a_secret_is_readable_by_its_owner_only(tmp_path):
    read_or_create(tmp_path / "credentials" / "key")

    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "credentials", tmp_path / "credentials" / "key")]
    assert modes == [0o700, 0o600]


def test_a_secret_stays_the_same(tmp_path):
    first = read_or_create(tmp_path / "key")

    assert read_or_create(tmp_path / "key") == first
    assert len(first) >= 50


def test_the_secret_that_was_stored_first_wins(tmp_path):
    write(tmp_path / "key", "first")
    write(tmp_path / "key", "second")

    assert (tmp_path / "key").read_text() == "first\n"


def test_processes_that_start_together_agree_on_a_secret(tmp_path):
    code = (
        "import sys; from pathlib import Path; from project.secrets import read_or_create; "
        f"sys.stdin.read(); print(read_or_create(Path({str(tmp_path / 'key')!r})))"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": settings.BASE_DIR}
    starters = [subprocess.Popen(command, **pipes) for _ in range(3)]

    for starter in starters:
        starter.stdin.close()
    secrets = {starter.stdout.read() for starter in starters}
    for starter in starters:
        starter.wait()

    assert len(secrets) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
