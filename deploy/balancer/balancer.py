"""Starts nginx in front of model servers, in the foreground and without root.

    python deploy/balancer/balancer.py --listen 127.0.0.1:8080 http://127.0.0.1:9001 http://127.0.0.1:9002

SIGTERM ends it at once, SIGQUIT when the requests under way have ended.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

TEMPLATE = Path(__file__).with_name("nginx.conf.template")
MISSING = (
    "nginx is not there. On Debian and Ubuntu `apt-get install nginx-light` installs it, on Fedora "
    "`dnf install nginx`, on macOS `brew install nginx`. Pictor itself does not need it."
)


def find_nginx() -> str | None:
    """Where nginx is; Debian has it where only root looks."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def configuration(servers: list[str], *, listen: str, at_once: int, repeats: bool, folder: Path, template: str) -> str:
    """nginx.conf for these servers, each of which gets `at_once` requests at a time; more are refused with 502.

    A request whose server cannot be reached goes to another. With `repeats`, so does one whose server died over it or
    refused it, before there was an answer: it is then drawn twice, at worst.
    """
    lines = [f"server {urlsplit(url).netloc} max_conns={at_once} max_fails=1 fail_timeout=2s;" for url in servers]
    return Template(template).substitute(
        folder=folder,
        listen=listen,
        servers="\n        ".join(lines),
        repeated_after="error timeout http_503 non_idempotent" if repeats else "error timeout",
    )


def main() -> None:
    """Write the configuration and become nginx."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("servers", nargs="+", metavar="URL", help="of a model server, such as http://gpu1:9000")
    arguments.add_argument("--listen", default="127.0.0.1:8080", help="address and port")
    arguments.add_argument("--at-once", type=int, default=4, help="requests that one server gets at a time")
    arguments.add_argument("--repeat", action="store_true", help="give a request whose server died to another")
    arguments.add_argument("--folder", type=Path, help="for nginx's files; a temporary one unless given")
    options = arguments.parse_args()
    nginx = find_nginx()
    if nginx is None:
        sys.exit(MISSING)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="pictor-balancer-"))
    folder.mkdir(parents=True, exist_ok=True)
    text = configuration(
        options.servers,
        listen=options.listen,
        at_once=options.at_once,
        repeats=options.repeat,
        folder=folder,
        template=TEMPLATE.read_text(),
    )
    path = folder / "nginx.conf"
    path.write_text(text)
    os.execv(nginx, [nginx, "-p", str(folder), "-e", "stderr", "-c", str(path)])


if __name__ == "__main__":
    main()
