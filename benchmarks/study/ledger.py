"""What became of each request of a load: the counting of the study."""

import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

OK, REFUSED, LOST, WAITING = "ok", "refused", "lost", "waiting"


@dataclass
class Request:
    """One request; times are in seconds since 1970, `ended_at` None while it waits."""

    number: int
    sent_at: float
    accepted_at: float | None = None
    ended_at: float | None = None
    outcome: str = WAITING

    def end(self, outcome: str, *, at: float | None = None) -> None:
        """Note how it ended; now, unless said otherwise."""
        self.outcome = outcome
        self.ended_at = time.time() if at is None else at


@dataclass
class Ledger:
    """All requests of a load, in the order in which they were sent."""

    requests: list[Request] = field(default_factory=list)

    def new(self) -> Request:
        """One that is sent now."""
        request = Request(len(self.requests), sent_at=time.time())
        self.requests.append(request)
        return request

    def counts(self) -> dict[str, int]:
        """How many ended how."""
        counted = Counter(request.outcome for request in self.requests)
        return {outcome: counted[outcome] for outcome in (OK, REFUSED, LOST, WAITING)}

    def succeeded(self) -> list[Request]:
        """Those with a picture, in the order in which they were sent."""
        return [request for request in self.requests if request.outcome == OK and request.ended_at is not None]

    def seconds(self) -> list[float]:
        """How long those with a picture took."""
        return [request.ended_at - request.sent_at for request in self.succeeded() if request.ended_at is not None]

    def overtaken(self, *, at_once: int) -> int:
        """How many pictures came after more than `at_once` pictures that were asked for later.

        So many that are drawn side by side may end in any order; beyond that, somebody has jumped the queue.
        """
        ends = [request.ended_at or 0.0 for request in self.succeeded()]
        behind = (sum(later < end for later in ends[place + 1 :]) for place, end in enumerate(ends))
        return sum(count > at_once for count in behind)


def quantile(values: list[float], share: float) -> float:
    """The value that a share of all do not exceed; 0.0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: list[float], *, scale: float = 1.0, digits: int = 2) -> dict[str, float]:
    """Median and 99th percentile."""
    return {
        "p50": round(scale * statistics.median(values), digits) if values else 0.0,
        "p99": round(scale * quantile(values, 0.99), digits),
    }
