"""docs/configuration.md says what project/settings.py does, and the production profile is safe."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as pictor
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError

ROOT = Path(pictor.BASE_DIR)
SETTINGS = str(ROOT / "project" / "settings.py")
READ = re.compile(r'env\.(\w+)\(\s*"([A-Z][A-Z0-9_]+)"(?:,\s*default=([^\n]*?))?[,)\n]')
ROW = re.compile(r"^\| `([A-Z0-9_]+)` \| (\w+) \| (.+?) \| .+ \|$", re.MULTILINE)
TYPES = {
    "str": {"text", "path", "URL"},
    "db_url": {"URL"},
    "redis_url": {"URL"},
    "broker_url": {"URL"},
    "zone": {"text"},
    "int": {"int"},
    "count": {"int"},
    "limit": {"int"},
    "port": {"int"},
    "seconds": {"float"},
    "interval": {"float"},
    "days": {"float"},
    "bool": {"bool"},
    "upstreams": {"list"},
}
STORAGE = "__import__('django.core.files.storage').core.files.storage.default_storage"
TYPES |= {"list": {"list"}, "choice": {"choice"}, "runtimes": {"text"}}


def settings_read() -> dict[str, tuple[str, str]]:
    source = (ROOT / "project/settings.py").read_text()
    return {name: (kind, default) for kind, name, default in READ.findall(source)}


def settings_documented() -> dict[str, tuple[str, str]]:
    page = (ROOT / "docs/configuration.md").read_text()
    return {name: (kind, default) for name, kind, default in ROW.findall(page)}


def test_every_setting_is_documented_and_every_documented_setting_exists():
    assert set(settings_documented()) == set(settings_read())


def test_the_documented_types_are_those_of_the_settings():
    read, documented = settings_read(), settings_documented()

    wrong = {name for name, (kind, _) in documented.items() if kind not in TYPES[read[name][0]]}

    assert wrong == set()


def test_the_documented_numbers_are_the_defaults():
    read, documented = settings_read(), settings_documented()
    numbers = {name: shown.strip("`") for name, (kind, shown) in documented.items() if kind in ("int", "float")}

    wrong = {name for name, shown in numbers.items() if eval(read[name][1]) != float(shown)}

    assert wrong == set()


@pytest.fixture
def read_settings(monkeypatch):
    """`read_settings(NAME=value)`: what project/settings.py gives where these variables are set, by name."""

    def read(**environment: str) -> dict[str, Any]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return {name: value for name, value in runpy.run_path(SETTINGS).items() if name.isupper()}

    return read


@pytest.fixture
def configure(settings, read_settings):
    """`configure(NAME=value)` has Django use for the test what these variables change in project/settings.py."""

    def change(**environment: str) -> None:
        before = read_settings()
        for name, value in read_settings(**environment).items():
            if name not in before or value != before[name]:
                setattr(settings, name, value)

    return change


def manage(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_production_profile_passes_djangos_deployment_check(configure):
    configure(PICTOR_HTTPS="true", PICTOR_ALLOWED_HOSTS="pictor.example.org")

    assert run_checks(include_deployment_checks=True) == []


def test_a_misspelt_setting_is_reported(configure):
    configure(PICTOR_LEASE_SECOND="15")

    (warning,) = run_checks()
    assert ("PICTOR_LEASE_SECOND is set" in warning.msg, warning.hint) == (True, "Did you mean PICTOR_LEASE_SECONDS?")


def test_settings_of_s3_without_a_bucket_are_reported(configure):
    configure(PICTOR_S3_REGION="eu-west-1")

    (warning,) = run_checks()
    assert (warning.msg, "PICTOR_S3_BUCKET" in warning.hint) == ("PICTOR_S3_REGION does nothing.", True)


def test_delivery_by_redirect_needs_s3(configure):
    configure(PICTOR_IMAGE_DELIVERY="redirect")

    with pytest.raises(SystemCheckError, match="PICTOR_S3_BUCKET"):
        call_command("check")


def test_prompts_that_no_file_could_hold_are_refused(configure):
    configure(PICTOR_MAX_PROMPT_LENGTH="50000")

    with pytest.raises(SystemCheckError, match="JPEG"):
        call_command("check")


def test_a_limit_that_nothing_could_count_is_reported(configure):
    configure(PICTOR_MAX_REQUESTS_PER_MINUTE="60", BROKER_URL="amqp://rabbit.example")

    (warning,) = run_checks()
    assert warning.hint == "Set REDIS_URL."


@pytest.mark.django_db
def test_nothing_is_missing_from_the_migrations(capsys):
    call_command("makemigrations", "--check", "--dry-run")

    assert capsys.readouterr().out == "No changes detected\n"


def test_a_data_folder_that_cannot_be_made_is_one_sentence():
    result = manage("check", PICTOR_DATA_DIR="/dev/null/data")

    assert result.returncode == 1
    assert result.stderr.startswith("pictor: The folder /dev/null/data cannot be made")
    assert len(result.stderr.splitlines()) == 1


def test_a_relative_data_folder_is_the_same_from_every_folder(read_settings, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    folder = read_settings(PICTOR_DATA_DIR=os.path.relpath(tmp_path / "data", ROOT))["DATA_DIR"]

    assert folder == tmp_path / "data"


def ask_settings(expression: str, **environment: str) -> str:
    """What `expression` is in a process with these settings, which starts sooner than the whole of Django."""
    code = f"from django.conf import settings; print({expression})"
    command = [sys.executable, "-c", code]
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "project.settings"} | environment
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_data_folder_with_odd_letters_holds_its_database(read_settings, tmp_path, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)

    database = read_settings(PICTOR_DATA_DIR=str(tmp_path / "a+b %41#c?d"))["DATABASES"]["default"]

    assert database["NAME"] == str(tmp_path / "a+b %41#c?d" / "db.sqlite3")


def test_a_relative_database_is_the_same_from_every_folder(read_settings):
    database = read_settings(DATABASE_URL="sqlite:///var/mine.sqlite3")["DATABASES"]["default"]

    assert database["NAME"] == str(ROOT / "var/mine.sqlite3")


def test_an_s3_server_that_does_not_answer_is_given_up_soon():
    client = f"{STORAGE}.connection.meta.client"
    names = ("connect_timeout", "read_timeout", "retries", "signature_version", "s3")

    shown = ask_settings(
        f"[getattr({client}.meta.config, name) for name in {names}]",
        PICTOR_S3_BUCKET="pictures",
        PICTOR_S3_ACCESS_KEY_ID="key",
        PICTOR_S3_SECRET_ACCESS_KEY="secret",
        PICTOR_S3_ADDRESSING_STYLE="path",
    )

    connect, read, retries, signature, s3 = eval(shown)
    assert (connect, read, retries["total_max_attempts"], signature) == (3, 20, 3, "s3v4")
    assert s3["addressing_style"] == "path"


def test_botocore_is_imported_only_for_s3():
    result = manage("shell", "--no-imports", "-c", "import sys; print('botocore' in sys.modules)")

    assert result.stdout.strip() == "False"


def test_a_save_that_is_tried_again_keeps_its_name(tmp_path):
    (tmp_path / "media").mkdir(parents=True)
    (tmp_path / "media" / "0.png").touch()
    save = f"{STORAGE}.save('0.png', __import__('io').BytesIO(b'again'))"

    assert ask_settings(save, PICTOR_DATA_DIR=str(tmp_path)) == "0.png"
    assert ask_settings(f"{STORAGE}.file_overwrite", PICTOR_S3_BUCKET="pictures") == "True"


def test_rabbitmq_that_confirms_nothing_is_given_up_soon():
    app = "__import__('celery_app').app"
    publish = f"{app}.amqp.router.route({{}}, 'generation.run')['confirm_timeout']"
    transport = f"{app}.connection_for_write().transport_options"

    shown = ask_settings(f"({publish}, {transport})", BROKER_URL="amqp://rabbit.example")

    assert eval(shown) == (5, {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5})


def test_a_redis_that_is_gone_costs_a_request_less_than_a_worker():
    expression = "[settings.CELERY_BROKER_TRANSPORT_OPTIONS[n] for n in ('socket_timeout', 'socket_connect_timeout')]"

    assert ask_settings(expression) == "[5, 2]"
    assert ask_settings(expression, PICTOR_BROKER_TIMEOUT_SECONDS="2") == "[2.0, 1.0]"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_volume_of_somebody_else_that_is_open_to_all_is_used_and_reported(tmp_path):
    os.chown(tmp_path, 65534, 65534)
    tmp_path.chmod(0o777)

    result = manage("check", PICTOR_DATA_DIR=str(tmp_path))

    assert result.returncode == 0
    assert "pictor.W002" in result.stderr


def test_only_a_worker_keeps_its_connection_to_the_database():
    age = "settings.DATABASES['default'].get('CONN_MAX_AGE', 0)"

    assert ask_settings(age) == "0"
    assert ask_settings(age, PICTOR_DEVICE="gpu0") == "60"
