"""A process with the service's own Django that answers expressions: a look at the truth without a web server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOOP = """
import json, sys
from datetime import timedelta
from django.db import connection
from django.db.models import F, Q
from django.db.models.functions import Now
from generation import dispatch, housekeeping, operations, saved_states
from generation.models import *
from tests.faults import history
for line in sys.stdin:
    try:
        answer = {"value": eval(json.loads(line))}
    except Exception as error:
        answer = {"error": repr(error)}
    finally:
        connection.close()
    print(json.dumps(answer, default=str), flush=True)
"""


class Inspector:
    """`ask(expression)` is its value in the service's Django, with the domain's modules and models at hand."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.process: subprocess.Popen[str] | None = None

    def ask(self, expression: str) -> Any:
        """The value as JSON carries it. The process starts with the first question."""
        if self.process is None:
            command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", LOOP]
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(expression) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def close(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.communicate()
