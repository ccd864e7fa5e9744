"""What all experiments of a run share."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.study.servers import Work


@dataclass(frozen=True)
class Context:
    """Where to put files, how long to take, which RabbitMQ may be used (none if empty), and what to load on a GPU."""

    folder: Path
    is_quick: bool
    rabbitmq: str
    gpu_model: Path | None = None

    def scaled(self, full: float, quick: float) -> float:
        """One figure for a full run, another for a quick one."""
        return quick if self.is_quick else full

    def brokers(self) -> dict[str, dict[str, str]]:
        """The settings of each broker that can be measured; Redis comes along."""
        return {"Redis": {}} | ({"RabbitMQ": {"BROKER_URL": self.rabbitmq}} if self.rabbitmq else {})


def gateway_settings(urls: list[str], *, slots: int) -> dict[str, str]:
    """A service whose workers have no device, and a pool of servers instead."""
    return {
        "PICTOR_RUNTIME": "gateway",
        "PICTOR_GATEWAY_UPSTREAMS": ",".join(urls),
        "PICTOR_CPU_SLOTS": str(slots),
    }


# A generation of a second on two servers that take three at a time: six a second.
SECOND = Work(steps=10, step_seconds=0.1, at_once=3)
SERVERS = 2


def capacity(work: Work) -> float:
    """Generations a second of all servers together."""
    return SERVERS * work.at_once / work.seconds
