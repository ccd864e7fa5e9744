"""The places of a device: as many generations of a model as keep it busy, or a single one that is to be alone."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Condition, Event

from generation.models import DiffusionModel

LOOK_AGAIN_SECONDS = 0.5

GiveUp = Callable[[], None]


class Places:
    """Generations take places in the order in which they have asked, unless `is_closed`: then nobody waits any more.

    `most_at_once` says how many a model has; that may change at any time. Who finds one free may take several.
    """

    def __init__(self, *, most_at_once: Callable[[DiffusionModel], int], is_closed: Event) -> None:
        self._most_at_once = most_at_once
        self._is_closed = is_closed
        self._taken: Counter[str] = Counter()
        self._inside = 0
        self._lines: defaultdict[str, list[object]] = defaultdict(list)
        self._want_to_be_alone = 0
        self._has_one_alone = False
        self._changed = Condition()

    @contextmanager
    def place(self, model: DiffusionModel, *, takes: int = 1, alone: bool = False) -> Iterator[GiveUp]:
        """Wait for one of the places of `model`, and hold `takes` for the block, or until what is yielded is called.

        What more of them took on would only wait inside of the engine, while another device might be free. The
        model has to be in memory. Who is to be alone waits until all others have left the block, and nobody joins
        meanwhile.
        """
        turn: object = object()
        with self._changed:
            self._want_to_be_alone += alone
            line: list[object] = [] if alone else self._lines[model.slug]
            line.append(turn)
            try:
                while not (line[0] is turn and self._has_room(model, alone=alone)) and not self._is_closed.is_set():
                    self._changed.wait(LOOK_AGAIN_SECONDS)
            finally:
                line.remove(turn)
                self._want_to_be_alone -= alone
            self._has_one_alone |= alone
            self._taken[model.slug] += takes
            self._inside += 1
            self._changed.notify_all()  # there may be room for the next one too
        with ExitStack() as held:
            held.callback(self._give_up, model, takes)
            try:
                yield held.close
            finally:
                with self._changed:
                    self._inside -= 1
                    self._has_one_alone &= not alone
                    self._changed.notify_all()

    def _give_up(self, model: DiffusionModel, takes: int) -> None:
        """The next one may have it."""
        with self._changed:
            self._taken[model.slug] -= takes
            self._changed.notify_all()

    def _has_room(self, model: DiffusionModel, *, alone: bool) -> bool:
        if alone:
            return self._inside == 0
        is_kept_free = self._has_one_alone or self._want_to_be_alone > 0
        return not is_kept_free and self._taken[model.slug] < self._most_at_once(model)
