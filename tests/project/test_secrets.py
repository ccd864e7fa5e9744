"""Secrets in files."""

import os
import subprocess
import sys

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from project.secrets import UnsafeFolder, make_ours, make_private, read_or_create, write


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


def test_a_secret_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "key").mkdir()

    with pytest.raises(ImproperlyConfigured, match=r"The secret in .*key can be neither read nor made"):
        read_or_create(tmp_path / "key")


def test_a_folder_of_ours_is_closed_to_others(tmp_path):
    tmp_path.chmod(0o755)

    make_private(tmp_path)

    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_volume_of_somebody_else_is_used_as_it_is_unless_it_must_be_ours(tmp_path):
    os.chown(tmp_path, 65534, 65534)
    tmp_path.chmod(0o770)

    make_private(tmp_path)

    assert tmp_path.stat().st_mode & 0o777 == 0o770
    with pytest.raises(UnsafeFolder, match="belongs to another user"):
        make_ours(tmp_path)


def test_a_folder_that_may_not_be_written_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere

    with pytest.raises(ImproperlyConfigured, match="may not be written"):
        make_private(tmp_path)


def test_a_link_is_not_taken_for_a_folder_of_ours(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)

    with pytest.raises(UnsafeFolder, match="is a link"):
        make_ours(tmp_path / "link")
