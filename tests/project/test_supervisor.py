"""The supervisor, with real children: small Python programs."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from django.conf import settings

from project.child import ChildSpec, Patience, ReadyCheck, StartFailed
from project.supervisor import Supervisor
from tests.project.recording import RecordingLog

IMPATIENT = Patience(first_pause_seconds=0.01, poll_seconds=0.01, ready_within_seconds=60)

SLEEPS = "print('up'); time.sleep(600)"
SAYS_BYE = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye'))); print('up'); time.sleep(600)"
IGNORES_SIGTERM = "signal.signal(signal.SIGTERM, lambda *_: print('no')); print('up')\nwhile True: time.sleep(600)"


def child(name: str, code: str, **options: object) -> ChildSpec:
    program = "import os, signal, subprocess, sys, time\n" + textwrap.dedent(code)
    return ChildSpec(name=name, argv=[sys.executable, "-u", "-c", program], **options)


def supervise(
    scenario: Callable[[Supervisor, RecordingLog], Awaitable[None]], patience: Patience = IMPATIENT
) -> tuple[int, RecordingLog]:
    """Run `scenario` under a supervisor; returns the exit code and what was logged."""

    async def run() -> tuple[int, RecordingLog]:
        log = RecordingLog()
        code = await Supervisor(log, patience=patience).run(lambda supervisor: scenario(supervisor, log))
        return code, log

    return asyncio.run(run())


def test_a_child_that_dies_is_started_again_with_doubling_pauses():
    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("web", "sys.exit(3)"))
        await log.until("web", "exited with code 3; starting again in 0.08 s")

    _, log = supervise(scenario)

    pauses = [text.split()[-2] for _, text in log.problems[:4]]
    assert pauses == ["0.01", "0.02", "0.04", "0.08"]


def test_the_pause_grows_up_to_half_a_minute():
    patience = Patience()

    assert [patience.pause_seconds(failures) for failures in (1, 2, 3, 6, 7, 9999)] == [0.5, 1, 2, 16, 30, 30]


def test_a_child_that_was_steady_starts_again_after_the_first_pause():
    patience = Patience(first_pause_seconds=0.01, steady_after_seconds=0)

    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("web", "sys.exit(3)"))
        await log.until("web", "exited with code 3; starting again in 0.01 s", times=3)

    _, log = supervise(scenario, patience)

    assert {text for _, text in log.problems[:3]} == {"exited with code 3; starting again in 0.01 s"}


def test_the_signal_that_killed_a_child_is_named():
    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("worker", "os.kill(os.getpid(), signal.SIGKILL)"))
        await log.until("worker", "was killed by SIGKILL; starting again in 0.01 s")

    code, _ = supervise(scenario)

    assert code == 0


def test_a_program_that_does_not_exist_ends_the_start():
    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(ChildSpec(name="web", argv=["/no/such/program"]))

    with pytest.raises(StartFailed, match=r"web cannot be started: .*no/such/program"):
        supervise(scenario)


def never() -> Awaitable[ReadyCheck]:
    async def is_ready() -> bool:
        return False

    async def watch() -> ReadyCheck:
        return is_ready

    return watch()


def test_a_child_that_dies_before_it_was_ever_ready_ends_the_start_with_its_last_lines():
    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("web", "sys.exit('cannot read my settings')", watch=never))

    with pytest.raises(StartFailed) as raised:
        supervise(scenario)

    assert str(raised.value).startswith("web exited with code 1, 2 times in a row.")
    assert "cannot read my settings" in str(raised.value)


def test_a_child_that_is_not_ready_in_time_ends_the_start():
    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("web", SLEEPS, watch=never))

    with pytest.raises(StartFailed, match=r"web was not ready within 0\.1 s"):
        supervise(scenario, Patience(ready_within_seconds=0.1))


def test_a_child_that_is_never_ready_again_is_started_again_with_doubling_pauses(tmp_path):
    marker = tmp_path / "has run"
    dies_first = f"""
        if not os.path.exists({str(marker)!r}):
            sys.exit(open({str(marker)!r}, 'w').close())
        {SLEEPS}
    """

    async def watch() -> ReadyCheck:
        is_first = not marker.exists()

        async def is_ready() -> bool:
            return is_first

        return is_ready

    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("worker", dies_first, watch=watch))
        await log.until("worker", "was killed by SIGTERM; starting again in 0.04 s")

    _, log = supervise(scenario, Patience(first_pause_seconds=0.01, ready_within_seconds=0.5, steady_after_seconds=0.2))

    assert [text for _, text in log.problems] == [
        "exited with code 0; starting again in 0.01 s",
        "was not ready within 0.5 s and is stopped",
        "was killed by SIGTERM; starting again in 0.02 s",
        "was not ready within 0.5 s and is stopped",
        "was killed by SIGTERM; starting again in 0.04 s",
    ]


def test_groups_stop_in_the_opposite_order_of_their_start():
    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        for name in ("redis", "web", "worker"):
            await supervisor.start(child(name, SAYS_BYE))
            await log.until(name, "up")

    code, log = supervise(scenario)

    assert code == 0
    assert [source for source, text in log.lines if text == "bye"] == ["worker", "web", "redis"]


def test_a_child_that_does_not_stop_is_killed_after_its_grace():
    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("worker", IGNORES_SIGTERM, grace_seconds=0.1))
        await log.until("worker", "up")

    code, log = supervise(scenario)

    assert code == 0
    assert log.problems == [("worker", "did not stop within 0.1 s and was killed")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_children_politely(number):
    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("web", SAYS_BYE))
        await log.until("web", "up")
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()

    code, log = supervise(scenario)

    assert code == 0
    assert ("web", "bye") in log.lines


def test_a_second_ctrl_c_kills_at_once():
    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("worker", IGNORES_SIGTERM, grace_seconds=600))
        await log.until("worker", "up")
        again.append(asyncio.ensure_future(press_again(log)))
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    async def press_again(log: RecordingLog) -> None:
        await log.until("worker", "no")
        os.kill(os.getpid(), signal.SIGINT)

    again: list[asyncio.Task[None]] = []
    code, _ = supervise(scenario)

    assert code == 130


def test_lines_arrive_whole_however_they_are_written():
    tears = """
        for number in range(2000):
            for piece in (f'{number} ', 'x' * (number % 7), '.\\n'):
                os.write(1 + number % 2, piece.encode())
        os.write(1, b'the end')
    """

    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("one", tears), child("two", tears))
        await log.until("one", "the end")
        await log.until("two", "the end")

    _, log = supervise(scenario, Patience(first_pause_seconds=60))

    whole = [f"{number} {'x' * (number % 7)}." for number in range(2000)]
    for name in ("one", "two"):
        assert [text for source, text in log.lines if source == name] == [*whole, "the end"]


def test_noise_is_left_out():
    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("redis", "print('WARNING: overcommit'); " + SLEEPS, noise=("overcommit",)))
        await log.until("redis", "up")

    _, log = supervise(scenario)

    assert log.lines[0] == ("redis", "up")


def test_what_a_child_leaves_behind_ends_with_it(tmp_path):
    path = str(tmp_path / "lock")
    leaves = f"""
        holder = "import fcntl, time; fcntl.flock(open({path!r}, 'w'), 2); print(1); time.sleep(600)"
        left = subprocess.Popen([sys.executable, '-uc', holder], stdout=subprocess.PIPE)
        left.stdout.readline()
        print('up')
        {SLEEPS}
    """

    async def scenario(supervisor: Supervisor, log: RecordingLog) -> None:
        await supervisor.start(child("worker", leaves))
        await log.until("worker", "up")

    supervise(scenario)

    wait_for_lock(tmp_path / "lock")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
def test_no_child_outlives_a_killed_supervisor(tmp_path):
    holds = f"import fcntl; fcntl.flock(open({str(tmp_path / 'lock')!r}, 'w'), 2); {SLEEPS}"
    program = f"""
import asyncio, sys
from project.child import ChildSpec
from project.console import Console
from project.supervisor import Supervisor

async def scenario(supervisor):
    await supervisor.start(ChildSpec(name="web", argv=[sys.executable, "-uc", {"import time; " + holds!r}]))
    await asyncio.Event().wait()

asyncio.run(Supervisor(Console(sys.stdout)).run(scenario))
"""
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program], cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True
    )
    assert "up" in supervisor.stdout.readline()

    supervisor.kill()
    supervisor.communicate()

    wait_for_lock(tmp_path / "lock")


def wait_for_lock(path: Path) -> None:
    """Return when no other process holds the lock; the test's own time limit is the limit."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
