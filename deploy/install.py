"""Makes Pictor's virtual environment in .venv and installs what it needs; any Python can run this file."""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Pictor needs Python 3.11 or newer; this is Python %d.%d. Install one and name it: "
        "make run PYTHON=/path/to/python3.11" % sys.version_info[:2]
    )

import argparse
import hashlib
import importlib.util
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from quiet_pip import InstallError, Progress, run_pip, say
from torch_build import TorchBuild, find_torch_build

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
THIS_VERSION = "%d.%d" % sys.version_info[:2]

PIP = "pip==26.3"  # resolves and unpacks twice as fast as the one that comes with Python 3.11
QUICKLY = ["install", "--no-compile"]  # Python compiles what it imports; pip would compile all, for a minute

# What is downloaded besides PyTorch, in megabytes, on Linux x86_64 with Python 3.11.
MEGABYTES = 80
DEVELOPMENT_MEGABYTES = 120


def main() -> int:
    """Bring .venv up to date; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="also what the tests and checks need")
    names = ["requirements.txt"] + (["requirements-dev.txt"] if parser.parse_args().dev else [])
    try:
        if not all(is_installed(name) for name in names):
            install(names)
    except InstallError as error:
        print("\npictor: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\npictor: stopped. The same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def is_installed(name: str) -> bool:
    """Whether this very requirement file was installed to the end, into what is still there."""
    return PYTHON.exists() and stamp(name).exists() and stamp(name).read_text() == fingerprint(name)


def stamp(name: str) -> Path:
    """The file that is written once the requirement file `name` is installed."""
    return VENV / (name + ".installed")


def fingerprint(name: str) -> str:
    """A text that changes with the requirement files and with Python's version."""
    content = b"".join((ROOT / other).read_bytes() for other in sorted({name, "requirements.txt"}))
    return "Python %s, %s\n" % (THIS_VERSION, hashlib.sha256(content).hexdigest())


def install(names: "list[str]") -> None:
    """Make the environment if need be and install the last of `names`, which includes the others."""
    started_at = time.monotonic()
    make_environment()
    with Progress() as progress:
        progress.show("looking for PyTorch")
        with suppress(InstallError):  # where this pip is not to be had, the one that is there will do
            run_pip(PYTHON, ["install", "--retries", "1", PIP], log=LOG, progress=progress)
        torch = find_torch_build(PYTHON, version=pinned_torch())
        announce(torch, megabytes=MEGABYTES + DEVELOPMENT_MEGABYTES * (len(names) - 1), progress=progress)
        if torch.index_url:
            source = ["--no-deps", "--index-url", torch.index_url]
            run_pip(PYTHON, [*QUICKLY, *source, torch.requirement], log=LOG, progress=progress)
        run_pip(PYTHON, [*QUICKLY, "-r", str(ROOT / names[-1])], log=LOG, progress=progress)
        for name in names:
            stamp(name).write_text(fingerprint(name))
        progress.say("Installed in %.0f s." % (time.monotonic() - started_at))


def make_environment() -> None:
    """Make .venv, unless it is there, works, and is of this Python."""
    if environment_version() == THIS_VERSION:
        return
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise InstallError(
            "This Python cannot make virtual environments. On Debian or Ubuntu: apt install python3-venv "
            "(for exactly this Python: python%s-venv). Then try again." % THIS_VERSION
        )
    say("%s .venv with Python %s." % ("Making anew" if VENV.exists() else "Making", THIS_VERSION))
    base = getattr(sys, "_base_executable", None) or sys.executable
    made = subprocess.run([base, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        raise InstallError(".venv could not be made:\n%s%s" % (made.stdout, made.stderr))


def environment_version() -> "str | None":
    """The Python version of .venv; None if there is none, or one that does not work."""
    question = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([str(PYTHON), "-c", question], capture_output=True, text=True)
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def pinned_torch() -> str:
    """The version of PyTorch that requirements.txt pins."""
    match = re.search(r"^torch==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    if match is None:
        raise InstallError("requirements.txt has no line torch==VERSION. Restore it: git checkout requirements.txt")
    return match[1]


def announce(torch: TorchBuild, *, megabytes: int, progress: Progress) -> None:
    """Say what will be downloaded, and about how much, before it is."""
    progress.say(torch.reason)
    total = torch.megabytes + megabytes
    amount = "%.1f GB" % (total / 1000) if total >= 1000 else "%d MB" % total
    progress.say("Up to %s will be downloaded, once." % amount)


if __name__ == "__main__":
    sys.exit(main())
