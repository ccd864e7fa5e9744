"""An S3 server of the tests' own: SeaweedFS, with one bucket."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config

from tests.ports import free_port

BUCKET = "pictures"
KEY, SECRET = "pictor-access", "pictor-secret-for-tests"


@contextmanager
def started_s3(folder: Path, *, address: str = "127.0.0.1") -> Iterator[str]:
    """SeaweedFS in a folder, telemetry off, for the length of the block; gives its URL."""
    identity = {
        "name": "pictor",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    folder.mkdir(exist_ok=True)
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
    ports |= {f"{name}.grpc": free_port() for name in ports}
    command = [
        str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder}", f"-ip={address}", "-s3",
        f"-s3.config={folder / 's3.json'}", "-master.telemetry=false", "-master.volumeSizeLimitMB=64",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    url = f"http://{address}:{ports['s3.port']}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )
    try:
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
                break
            except Exception:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.1)
        yield url
    finally:
        process.kill()  # its polite stop takes half a minute, and its folder goes anyway
        process.wait()
