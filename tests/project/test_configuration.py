"""docs/configuration.md says what project/settings.py does, and the production profile is safe."""

import os
import re
import subprocess
import sys
from pathlib import Path

from django.conf import settings

ROOT = Path(settings.BASE_DIR)
READ = re.compile(r'env\.(\w+)\(\s*"([A-Z][A-Z0-9_]+)"(?:,\s*default=([^\n]*?))?[,)\n]')
ROW = re.compile(r"^\| `([A-Z0-9_]+)` \| (\w+) \| (.+?) \| .+ \|$", re.MULTILINE)
TYPES = {
    "str": {"text", "path", "URL"},
    "db_url": {"URL"},
    "int": {"int"},
    "float": {"float"},
    "bool": {"bool"},
}
TYPES |= {"list": {"list"}, "choice": {"choice"}}


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


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_production_profile_passes_djangos_deployment_check():
    result = manage(
        "check",
        "--deploy",
        "--fail-level",
        "WARNING",
        PICTOR_HTTPS="true",
        PICTOR_ALLOWED_HOSTS="pictor.example.org",
    )

    assert result.returncode == 0, result.stderr


def test_a_misspelt_setting_is_reported():
    result = manage("check", PICTOR_LEASE_SECOND="15")

    assert "PICTOR_LEASE_SECOND" in result.stderr


def test_delivery_by_redirect_needs_s3():
    result = manage("check", PICTOR_IMAGE_DELIVERY="redirect")

    assert result.returncode == 1
    assert "PICTOR_S3_BUCKET" in result.stderr


def test_prompts_that_no_file_could_hold_are_refused():
    result = manage("check", PICTOR_MAX_PROMPT_LENGTH="50000")

    assert result.returncode == 1
    assert "JPEG" in result.stderr


def test_nothing_is_missing_from_the_migrations():
    result = manage("makemigrations", "--check", "--dry-run")

    assert result.returncode == 0, result.stdout


def test_a_data_folder_that_cannot_be_made_is_one_sentence():
    result = manage("check", PICTOR_DATA_DIR="/dev/null/data")

    assert result.returncode == 1
    assert result.stderr.startswith("pictor: The folder /dev/null/data cannot be made")
    assert len(result.stderr.splitlines()) == 1
