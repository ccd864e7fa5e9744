"""When the state of a running generation is saved, and how the next attempt finds it.

The run itself only begins to copy it from its device; threads of their own wait for that and put it away.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING
from uuid import UUID

from generation import saved_states
from generation.conf import configuration
from generation.engines.errors import UnusableState
from generation.engines.packed_state import PackedState
from generation.engines.types import ImageRequest, Progress
from generation.models import Device

if TYPE_CHECKING:
    from generation.engines.state import SavedState

logger = logging.getLogger(__name__)

SHARE = 0.01  # of its time that a generation may wait for copies of its state
PATIENCE_SECONDS = 10.0

_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="saving")


@dataclass(frozen=True, slots=True)
class Found:
    """What earlier attempts have left: a state to go on from, or the reason why there is none."""

    state: PackedState | None = None
    note: str = ""

    @property
    def step(self) -> int:
        """The steps that are done."""
        return 0 if self.state is None else self.state.step


@dataclass(slots=True)
class Rhythm:
    """When to save: not in the first `seconds`, then so often, and so that copies never take more than SHARE of it."""

    seconds: float
    due_at: float | None = None

    def is_due(self, *, now: float) -> bool:
        """Whether it is time; the first question begins the count."""
        if self.due_at is None:
            self.due_at = now + self.seconds
        return now >= self.due_at

    def note(self, *, began: float, ended: float) -> None:
        """A copy has been taken."""
        self.due_at = began + max(self.seconds, (ended - began) / SHARE)


class Saving:
    """Of one run. Its own thread calls `on_step` and `hand_over`, at a step; nothing here raises."""

    def __init__(self, generation_id: UUID, request: ImageRequest, *, device: Device) -> None:
        self.saved_step = 0
        self._generation_id = generation_id
        self._request = request
        self._device = device
        self._rhythm = Rhythm(configuration().save_seconds or math.inf)
        self._writing: Future[None] | None = None
        self._may_be_kept = False

    def find(self, *, saved_step: int) -> Found:
        """The newest state that this same request has left; `saved_step` is that of the row, 0 for none."""
        if not self._is_wanted:
            return Found()
        self._may_be_kept = True
        states, faults = [], []
        for data in saved_states.find(self._generation_id):
            try:
                states.append(unseal(data, mark=self.mark))
            except UnusableState as error:
                faults.append(str(error))
        newest = max(states, key=lambda state: state.step, default=None)
        if newest is not None:
            self.saved_step = newest.step
            return Found(newest)
        missing = [f"The state after step {saved_step} was not found."] if saved_step and not faults else []
        return Found(note=" ".join(faults + missing))

    def on_step(self, progress: Progress) -> None:
        """Save if it is time, unless the last state is still being put away."""
        began = time.monotonic()
        if not self._rhythm.is_due(now=began) or (self._writing is not None and not self._writing.done()):
            return
        copy = self._copy(progress)
        self._rhythm.note(began=began, ended=time.monotonic())
        if copy is not None:
            self._may_be_kept = True
            self._writing = _threads.submit(self._keep, copy)

    def hand_over(self, progress: Progress) -> None:
        """Save at this very step, and wait until that is done."""
        if not self._is_wanted:
            return
        copy = self._copy(progress)
        # Before waiting: what a model server answers is read by this thread, for the others too.
        state = self._finish(copy) if copy is not None else None
        self.wait()
        if state is not None:
            self._may_be_kept = True
            self._put_away(state)

    def begin_anew(self) -> None:
        """What was found is of no use."""
        self.saved_step = 0

    def forget(self) -> None:
        """Have removed soon what was kept: nobody goes on from it any more."""
        if self._may_be_kept:
            self._writing = _threads.submit(self._forget, self._writing)

    def wait(self) -> None:
        """Wait until what was saved last is put away, or what is to be forgotten is gone."""
        if self._writing is not None:
            wait([self._writing], timeout=PATIENCE_SECONDS)

    @property
    def _is_wanted(self) -> bool:
        return math.isfinite(self._rhythm.seconds)

    @cached_property
    def mark(self) -> str:
        """A digest of all that has to be the same for a state to be of any use."""
        return mark_of(self._request, device=self._device)

    def _copy(self, progress: Progress) -> "Callable[[], SavedState | PackedState] | None":
        try:
            return progress.copy_state()
        except Exception:  # a precaution must not end a generation
            logger.exception("The state of %s could not be copied.", self._generation_id)
            return None

    def _keep(self, copy: "Callable[[], SavedState | PackedState]") -> None:
        state = self._finish(copy)
        if state is not None:
            self._put_away(state)

    def _finish(self, copy: "Callable[[], SavedState | PackedState]") -> "SavedState | PackedState | None":
        try:
            return copy()
        except Exception as error:
            self._complain(error)
            return None

    def _put_away(self, state: "SavedState | PackedState") -> None:
        try:
            if not state.is_finite:
                logger.warning("The state of %s after step %s holds no numbers.", self._generation_id, state.step)
                return
            saved_states.keep(self._generation_id, seal(state, mark=self.mark), step=state.step)
            self.saved_step = state.step
        except Exception as error:  # each backend has its own errors, and all of them mean the same here
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        logger.warning("The state of %s could not be saved: %s", self._generation_id, error)

    def _forget(self, writing: "Future[None] | None") -> None:
        if writing is not None:
            wait([writing], timeout=PATIENCE_SECONDS)
        saved_states.forget(self._generation_id)


def mark_of(request: ImageRequest, *, device: Device) -> str:
    """The SHA-256 of the request and of the code that its state is made by.

    What is to be reproducible goes on only on the same kind of device: each kind has bits of its own.
    """
    pictures = [picture for picture in (request.image, request.mask, *request.references) if picture is not None]
    facts: list[object] = [asdict(replace(request, image=None, mask=None, references=())), version("diffusers")]
    facts += [[picture.shape, sha256(picture.tobytes()).hexdigest()] for picture in pictures]
    if request.is_reproducible:
        facts += [device.kind, device.name, version("torch")]
    return sha256(json.dumps(facts).encode()).hexdigest()


def seal(state: "SavedState | PackedState", *, mark: str) -> bytes:
    """The state as bytes that say of which request it is, and that tell whether they are whole."""
    body = state.to_bytes()
    header = {"request": mark, "sha256": sha256(body).hexdigest()}
    return json.dumps(header).encode() + b"\n" + body


def unseal(data: bytes, *, mark: str) -> PackedState:
    """The state again; raises UnusableState for what is broken, or of another request."""
    line, _, body = data.partition(b"\n")
    try:
        header = json.loads(line)
        is_whole, is_ours = header["sha256"] == sha256(body).hexdigest(), header["request"] == mark
    except (ValueError, KeyError, TypeError) as error:
        raise UnusableState(f"The saved state cannot be read ({type(error).__name__}: {error}).") from error
    if not is_whole:
        raise UnusableState("The saved state is not whole.")
    if not is_ours:
        raise UnusableState("The saved state is not one of this request, with this model and version, on this device.")
    return PackedState.from_bytes(body)
