"""schemathesis against a running service: every operation that is described, every check there is.

    python -m tests.service.fuzzing --examples 1000 --minutes 30     # by hand, much longer than the test

The description says what holds for every model. What the one model of the service and the user's rights narrow
further is written into the description first; everything else is taken at its word.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from tests.inspector import ROOT
from tests.service.running import Running, running_service

OWNER, STRANGER = "fuzzing-owner", "fuzzing-stranger"
# What depends on more than the description can say, or would not end; it has tests of its own.
OWN_HEADERS = ("Idempotency-Key", "Prefer", "Cancel-After")
OWN_MEMBERS = ("image", "mask", "reference_images", "strength", "webhook_url")
STREAMS = ("/api/events/", "/api/generations/{id}/events/")
# A valid range may lie beyond a small picture; 416 is what schemathesis does not expect by itself.
CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "416", "429", "5xx"]
"""
LAST_REQUESTS_SECONDS = 60  # from the end of its time until it reports
PHASES = "examples,coverage,fuzzing,stateful"
# Values at the limits of each parameter take most of the time, and are refused alike whoever sends them.
WITHOUT_LIMITS = "examples,fuzzing,stateful"
CHEAP = {
    "default_width": 64, "default_height": 64, "default_num_inference_steps": 1,
    "max_width": 128, "max_height": 64, "max_num_inference_steps": 2,
}  # fmt: skip
SMALLEST = {"num_inference_steps": 1, "width": 64, "height": 64}
CALLERS = ("owner", "stranger", "anonymous")


@dataclass(frozen=True)
class Extent:
    """How much is tried; the same each time unless there is a seed."""

    examples: int
    minutes: float
    seed: int | None = None
    fills_its_time: bool = False  # begins anew until its time is over, when it reports, however far it has come


def add_keys(service: Running, *names: str) -> list[str]:
    """A key each of users who are made for it."""
    return service.ask(
        "[__import__('api.models').models.ApiKey.objects.create(name='fuzzing', user=user)[1]"
        " for name in " + repr(names) + " for user in"
        " [__import__('django.contrib.auth.models').contrib.auth.models.User.objects.create_user(name)]]"
    )


def narrowed(description: dict[str, Any], *, model: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """The description for a service with this one model; `ids` says what paths name, by a part of them, among others.

    Nothing is left that would make the service send requests elsewhere.
    """
    schema = copy.deepcopy(description)
    members = schema["components"]["schemas"]["GenerationRequest"]["properties"]
    for name in OWN_MEMBERS:
        del members[name]
    for path in STREAMS:
        del schema["paths"][path]
    for name, most in model["limits"].items():
        members[name]["maximum"] = most
    members["model"] = {"type": "string", "enum": [model["slug"]]}
    members["scheduler"] = {"type": "string", "enum": model["schedulers"]}
    members["priority"] = {"type": "integer", "enum": [-1, 0]}  # 1 is for staff
    schema["components"]["schemas"]["CancelAll"]["properties"]["model"]["enum"] = [model["slug"]]
    for path, methods in schema["paths"].items():
        named = next((ids[part] for part in ids if part in path), None)
        examples = {"id": named, "index": 0, "slug": model["slug"]}
        for operation in methods.values():
            parameters = operation.get("parameters", [])
            operation["parameters"] = [one for one in parameters if one["name"] not in OWN_HEADERS]
            operation.get("requestBody", {}).get("content", {}).get("multipart/form-data", {}).pop("examples", None)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for example in content.get("examples", {}).values():
                    without_own_members(example["value"])
            for parameter in operation.get("parameters", []):
                if parameter["name"] in examples:
                    parameter["example"] = examples[parameter["name"]]
                if parameter["name"] == "model":
                    parameter["schema"] = {"type": "string", "enum": ["", model["slug"]]}
    return schema


def without_own_members(body: dict[str, Any]) -> None:
    """Take them out of an example."""
    for name in OWN_MEMBERS:
        body.pop(name, None)


def fuzz(service: Running, *, key: str | None, schema: dict[str, Any], extent: Extent, phases: str) -> str:
    """The report of schemathesis, run with this key or with none; raises AssertionError for whatever it finds."""
    with tempfile.TemporaryDirectory(prefix="pictor-fuzzing-") as folder:
        file = Path(folder) / "openapi.json"
        file.write_text(json.dumps(schema))
        (Path(folder) / "schemathesis.toml").write_text(CONFIGURATION)
        command = [
            sys.executable, str(Path(sys.executable).with_name("schemathesis")), "run", str(file),
            "--url", str(service.client.base_url), "--checks", "all", "--phases", phases,
            "--max-examples", str(extent.examples), "--no-color", "--continue-on-failure",
            *(["--generation-deterministic"] if extent.seed is None else ["--seed", str(extent.seed)]),
            *(["--max-time", str(int(60 * extent.minutes))] if extent.fills_its_time else []),
            *(["--header", f"Authorization: Bearer {key}"] if key else []),
        ]  # fmt: skip
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.service.fuzzing_hooks", "PYTHONPATH": str(ROOT)}
        seconds = 60 * extent.minutes + LAST_REQUESTS_SECONDS
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


def fuzz_as_everybody(service: Running, *, extent: Extent, callers: Sequence[str] = CALLERS) -> Iterator[str]:
    """As the owner of two generations, as somebody else, and as nobody: the reports. Leaves nothing that waits.

    Unless there is time to fill, only the owner goes to the limits of each parameter. The model allows next to nothing
    meanwhile: what is accepted is drawn too.
    """
    owners_key, strangers_key = add_keys(service, OWNER, STRANGER)
    keys = {"owner": owners_key, "stranger": strangers_key, "anonymous": None}
    description = httpx.get(f"{service.client.base_url}/api/schema/?format=json").json()
    with httpx.Client(base_url=service.client.base_url, headers={"Authorization": f"Bearer {owners_key}"}) as client:
        owner = replace(service, client=client)
        finished, other = owner.finish(**SMALLEST), owner.submit(priority=-1, **SMALLEST)
        batch = client.post(
            "/api/batches/", json={"requests": [SMALLEST | {"prompt": "a red apple", "priority": -1}]}
        ).json()
        stored = client.post("/api/inputs/", files={"file": client.get(finished["images"][0]["url"]).content}).json()
    ids = {
        "/images/": finished["id"],
        "/generations/": other["id"],
        "/batches/": batch["id"],
        "/inputs/": stored["id"],
    }
    usual = service.ask(f"DiffusionModel.objects.values(*{list(CHEAP)}).get()")
    try:
        service.ask(f"DiffusionModel.objects.update(**{CHEAP!r})")
        (model,) = service.client.get("/api/models/").json()
        schema = narrowed(description, model=model, ids=ids)
        for caller in callers:
            phases = PHASES if caller == "owner" or extent.fills_its_time else WITHOUT_LIMITS
            yield fuzz(service, key=keys[caller], schema=schema, extent=extent, phases=phases)
    finally:
        service.ask(f"DiffusionModel.objects.update(**{usual!r})")
        unfinished = f"Generation.objects.filter(owner__username__in={[OWNER, STRANGER]!r}, finished_at=None)"
        service.ask(f"[one.withdraw() or one.request_cancel() for one in {unfinished}]")


def main() -> None:
    """Start a service of its own and try for as long as is asked."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--examples", type=int, default=500, help="for each operation, caller and phase")
    arguments.add_argument("--minutes", type=float, default=30, help="the time that one caller takes")
    arguments.add_argument("--seed", type=int, default=None, help="another one tries other things")
    arguments.add_argument("--as", dest="callers", nargs="+", choices=CALLERS, default=list(CALLERS))
    options = arguments.parse_args()
    extent = Extent(options.examples, options.minutes, options.seed, fills_its_time=True)
    with (
        tempfile.TemporaryDirectory(prefix="pictor-fuzzed-") as folder,
        running_service(Path(folder), PICTOR_MAX_WAITING_PER_USER="0") as service,
    ):
        for caller, report in zip(
            options.callers, fuzz_as_everybody(service, extent=extent, callers=options.callers), strict=True
        ):
            sys.stdout.write(f"--- as {caller} ---\n{report}\n")


if __name__ == "__main__":
    main()
