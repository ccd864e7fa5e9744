"""An S3 server of the tests' own: SeaweedFS, with one bucket."""

import json
import shutil
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


class S3Server:
    """SeaweedFS in a folder, telemetry off; may be killed and started anew with what it has stored."""

    def __init__(self, folder: Path, *, address: str = "127.0.0.1") -> None:
        identity = {
            "name": "pictor",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        folder.mkdir(exist_ok=True)
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
        ports |= {f"{name}.grpc": free_port() for name in ports}
        self.folder = folder
        self.port = ports["s3.port"]
        self.url = f"http://{address}:{self.port}"
        self._command = [
            str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder}", f"-ip={address}", "-s3",
            f"-s3.config={folder / 's3.json'}", "-master.telemetry=false", "-master.volumeSizeLimitMB=64",
            "-s3.port.iceberg=0", "-s3.port.lance=0",
            *(f"-{name}={port}" for name, port in ports.items()),
        ]  # fmt: skip

    def __enter__(self) -> "S3Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until the bucket is there."""
        for journal in self.folder.glob("m[0-9]*"):
            shutil.rmtree(journal)  # of the master's elections: with one, a second start takes 15 s
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(self._command, cwd=self.folder, stdout=log, stderr=log)
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
        )
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
                return
            except (client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                return
            except Exception:
                assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.1)

    def kill(self) -> None:
        """kill -9: its polite stop takes half a minute."""
        self.process.kill()
        self.process.wait()


@contextmanager
def started_s3(folder: Path, *, address: str = "127.0.0.1") -> Iterator[str]:
    """One for the length of the block; gives its URL."""
    with S3Server(folder, address=address) as server:
        yield server.url
