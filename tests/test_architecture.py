"""The house rules that a program can check."""

import ast
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from generation.lifecycle import Status

ROOT = Path(settings.BASE_DIR)
PACKAGES = ("api", "generation", "project")
FILES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
SOURCES = [path for path in FILES if "migrations" not in path.parts]
LONGEST_FILE = 300


def test_imports_go_one_way():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout


def test_no_status_is_spelt_outside_the_lifecycle():
    words = {status.value for status in Status}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        if path.name != "lifecycle.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in words
    ]

    assert found == []


def test_no_file_is_longer_than_a_few_screens():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}

    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_every_file_says_in_its_first_line_what_it_is_for():
    silent = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.read_text() and not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert silent == []
