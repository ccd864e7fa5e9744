"""A mistake in the configuration ends as one sentence, not as a traceback."""

import os
import runpy
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
        ("PICTOR_LOG_LEVEL", "foo", "PICTOR_LOG_LEVEL='foo' is not one of DEBUG,"),
        ("PICTOR_TIME_ZONE", "Foo/Bar", "PICTOR_TIME_ZONE='Foo/Bar' is not a time zone"),
        ("PICTOR_TIME_ZONE", "Europe", "PICTOR_TIME_ZONE='Europe' is not a time zone"),
        ("DATABASE_URL", "foo", "DATABASE_URL must start with one of sqlite://,"),
        ("DATABASE_URL", "mysql://u:p@h/db", "DATABASE_URL must start with one of sqlite://,"),
        ("DATABASE_URL", "postgres://u:hush@h:bad/db", "DATABASE_URL is not a valid URL"),
        ("REDIS_URL", "foo", "REDIS_URL must start with one of redis://,"),
        ("REDIS_URL", "amqp://h", "REDIS_URL must start with one of redis://,"),
        ("REDIS_URL", "redis://h:bad/0", "REDIS_URL is not a valid URL"),
        ("REDIS_URL", "redis://h/pictor", "REDIS_URL must end in the number of a Redis database"),
        ("BROKER_URL", "kafka://h", "BROKER_URL must start with one of redis://,"),
        ("PICTOR_PORT", "65536", "PICTOR_PORT=65536 is no port"),
        ("PICTOR_FLOWER_PORT", "-1", "PICTOR_FLOWER_PORT=-1 is no port"),
        ("PICTOR_MAX_ATTEMPTS", "0", "PICTOR_MAX_ATTEMPTS=0 must be at least 1."),
        ("PICTOR_LEASE_SECONDS", "0", "PICTOR_LEASE_SECONDS=0 must be more than 0"),
        ("PICTOR_BEAT_SECONDS", "5 minutes", "PICTOR_BEAT_SECONDS='5 minutes' is not a valid number."),
        ("PICTOR_SWEEP_SECONDS", "-1", "PICTOR_SWEEP_SECONDS=-1 must be more than 0"),
        ("PICTOR_SAVE_SECONDS", "-1", "PICTOR_SAVE_SECONDS=-1 must be 0, for never, or at most"),
        ("PICTOR_BEAT_SECONDS", "nan", "PICTOR_BEAT_SECONDS=nan must be more than 0"),
        ("PICTOR_REDISPATCH_SECONDS", "1e300", "PICTOR_REDISPATCH_SECONDS=1e+300 must be more than 0 and at most"),
        ("PICTOR_RUNTIME", "native,gpu1=gateway", "PICTOR_RUNTIME: a gateway needs servers. Name them in"),
        ("PICTOR_GATEWAY_UPSTREAMS", "http://one, two", "PICTOR_GATEWAY_UPSTREAMS: two is no address of a server"),
        ("PICTOR_BEAT_SECONDS", "15", "PICTOR_BEAT_SECONDS (15) must be less than PICTOR_LEASE_SECONDS (15)"),
    ],
)
def test_a_setting_that_is_wrong_is_named_in_one_sentence(monkeypatch, name, value, sentence):
    monkeypatch.setenv(name, value)

    with pytest.raises(ImproperlyConfigured) as raised:
        runpy.run_path(str(settings.BASE_DIR / "project" / "settings.py"))

    told = str(raised.value)
    assert sentence in told
    assert "\n" not in told
    assert "hush" not in told


def test_manage_py_ends_with_that_sentence_and_nothing_else():
    result = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=settings.BASE_DIR,
        env=os.environ | {"PICTOR_PORT": "eight"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 1
    assert result.stderr.startswith("pictor: PICTOR_PORT='eight' is not a valid int. Correct it")
    assert len(result.stderr.splitlines()) == 1


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


def test_a_choice_may_be_written_in_small_letters(monkeypatch):
    monkeypatch.setenv("PICTOR_TEST_LEVEL", "warning")

    level = Environment().choice("PICTOR_TEST_LEVEL", default="INFO", options=("INFO", "WARNING"))

    assert level == "WARNING"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://:p%40ss@h:6379/0",
        "rediss://h:6380/1?ssl_cert_reqs=required",
        "redis+socket:///run/redis.sock",
        "amqp://a:5672//;amqp://b:5672//",
        "amqps://u:p@h/vhost",
    ],
)
def test_the_urls_of_brokers_that_we_support_are_taken(monkeypatch, url):
    monkeypatch.setenv("PICTOR_TEST_URL", url)

    assert Environment().broker_url("PICTOR_TEST_URL", default="") == url


def test_a_postgres_cluster_is_taken(monkeypatch):
    monkeypatch.setenv("PICTOR_TEST_URL", "postgres://u:p@a:5432,b:5433/pictor")

    database = Environment().db_url("PICTOR_TEST_URL")

    assert (database["HOST"], database["PORT"]) == ("a,b", "5432,5433")


def test_the_servers_of_a_pool_are_a_list(monkeypatch):
    monkeypatch.setenv("PICTOR_TEST", "http://one:9000, openai+http://two:8000/v1,")

    assert [upstream.url for upstream in Environment().upstreams("PICTOR_TEST")] == [
        "http://one:9000",
        "http://two:8000/v1",
    ]
    assert Environment().upstreams("PICTOR_OTHER") == ()
