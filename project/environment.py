"""Typed readers of the environment that answer a mistake with a sentence instead of a traceback."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import environ
from django.core.exceptions import ImproperlyConfigured

from generation.runtimes.choice import choose
from generation.runtimes.gateway.addresses import Upstream, parse_upstreams

UPSTREAMS = "PICTOR_GATEWAY_UPSTREAMS"
ASSIGNMENT = re.compile(r"(?:export )?[A-Za-z_][A-Za-z_0-9]*=")

YES = {"true", "yes", "on", "1", "y", "t", "ok"}
NO = {"false", "no", "off", "0", "n", "f", ""}

REDIS_SCHEMES = ("redis", "rediss", "redis+socket")
BROKER_SCHEMES = (*REDIS_SCHEMES, "amqp", "amqps")
DATABASE_SCHEMES = ("sqlite", "postgres", "postgresql")
WEEK_SECONDS = 7 * 24 * 3600
LONGEST_DAYS = 36500


class Environment(environ.Env):
    """django-environ's reader, strict about `.env` lines and about values that do not fit their type."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get_value(self, var: str, cast: Any = None, default: Any = environ.Env.NOTSET, **options: Any) -> Any:
        """Read one variable; `ImproperlyConfigured` names it when its value cannot be understood."""
        self.names.add(var)
        try:
            return super().get_value(var, cast=cast, default=default, **options)
        except (ValueError, TypeError) as error:
            kind = getattr(cast, "__name__", "value")
            raise ImproperlyConfigured(
                f"{var}={self.ENVIRON.get(var)!r} is not a valid {kind}. "
                "Correct it in .env or in the environment; docs/configuration.md lists every setting."
            ) from error

    def bool(self, var: str, default: bool | environ.NoValue = environ.Env.NOTSET) -> bool:
        """Read a yes or no; anything else is refused, where django-environ would take it for a no."""
        value = str(self.get_value(var, cast=str, default=default)).strip().lower()
        if value not in YES | NO:
            raise ImproperlyConfigured(f"{var}={value!r} is neither true nor false.")
        return value in YES

    def choice(self, var: str, *, default: str, options: tuple[str, ...]) -> str:
        """Read a variable that must be one of `options`, in capitals or not."""
        value = self.str(var, default=default)
        for option in options:
            if option.lower() == value.lower():
                return option
        raise ImproperlyConfigured(f"{var}={value!r} is not one of {', '.join(options)}.")

    def count(self, var: str, *, default: int) -> int:
        """Read a whole number that must be at least 1."""
        value: int = self.int(var, default=default)
        if value < 1:
            raise ImproperlyConfigured(f"{var}={value} must be at least 1.")
        return value

    def limit(self, var: str, *, default: int) -> int:
        """Read a whole number that must not be negative; 0 stands for no limit."""
        value: int = self.int(var, default=default)
        if value < 0:
            raise ImproperlyConfigured(f"{var}={value} must be 0, for no limit, or more.")
        return value

    def port(self, var: str, *, default: int) -> int:
        """Read the number of a TCP port."""
        value: int = self.int(var, default=default)
        if not 0 < value < 65536:
            raise ImproperlyConfigured(f"{var}={value} is no port: they go from 1 to 65535.")
        return value

    def seconds(self, var: str, *, default: float) -> float:
        """Read a time that must be longer than nothing and at most a week."""
        value: float = self.get_value(var, cast=number, default=default)
        if not 0 < value <= WEEK_SECONDS:
            raise ImproperlyConfigured(f"{var}={value:g} must be more than 0 and at most {WEEK_SECONDS} seconds.")
        return value

    def interval(self, var: str, *, default: float) -> float:
        """Read a time between two of something, at most a week; 0 is for never."""
        value: float = self.get_value(var, cast=number, default=default)
        if not 0 <= value <= WEEK_SECONDS:
            raise ImproperlyConfigured(f"{var}={value:g} must be 0, for never, or at most {WEEK_SECONDS} seconds.")
        return value

    def days(self, var: str, *, default: float) -> float:
        """Read a time in days, up to a hundred years; 0 is for none."""
        value: float = self.get_value(var, cast=number, default=default)
        if not 0 <= value <= LONGEST_DAYS:
            raise ImproperlyConfigured(f"{var}={value:g} must be from 0 to {LONGEST_DAYS} days.")
        return value

    def zone(self, var: str, *, default: str) -> str:
        """Read the name of a time zone that this machine knows."""
        value = str(self.str(var, default=default))
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a folder of zones, as in "Europe"
            raise ImproperlyConfigured(
                f"{var}={value!r} is not a time zone that this machine knows, such as Europe/Berlin."
            ) from error
        return value

    def redis_url(self, var: str, *, default: str) -> str:
        """Read the URL of a Redis; empty for none."""
        return self._broker_url(var, default=default, schemes=REDIS_SCHEMES)

    def broker_url(self, var: str, *, default: str) -> str:
        """Read the URL of a broker, Redis or RabbitMQ; empty for none."""
        return self._broker_url(var, default=default, schemes=BROKER_SCHEMES)

    def _broker_url(self, var: str, *, default: str, schemes: tuple[str, ...]) -> str:
        value = str(self.str(var, default=default))
        if value:
            check_scheme(var, value, schemes=schemes)
            try:
                parts = urlsplit(value.partition(";")[0])  # kombu takes alternatives, separated by semicolons
                parts.port  # noqa: B018  raises ValueError unless it is a port
            except ValueError as error:
                raise broken_url(var) from error
            if parts.scheme in ("redis", "rediss") and not re.fullmatch(r"/?[0-9]*", parts.path):
                raise ImproperlyConfigured(f"{var} must end in the number of a Redis database, or in none.")
        return value

    def db_url(
        self, var: str = "DATABASE_URL", default: str | environ.NoValue = environ.Env.NOTSET, engine: str | None = None
    ) -> dict[str, Any]:
        """Read the URL of a database as Django's settings for it; empty for the default."""
        value = str(self.str(var, default=default)) or str(default)
        check_scheme(var, value, schemes=DATABASE_SCHEMES)
        try:
            return dict(self.db_url_config(value, engine=engine))
        except (ValueError, TypeError) as error:
            raise broken_url(var) from error

    def runtimes(self, var: str) -> str:
        """Read which runtime each device gets."""
        value = str(self.str(var, default="native"))
        try:
            choose(value, label="")
        except ValueError as error:
            raise ImproperlyConfigured(f"{var}: {error}") from error
        if "gateway" in value and not self.str(UPSTREAMS, default=""):
            raise ImproperlyConfigured(f"{var}: a gateway needs servers. Name them in {UPSTREAMS}.")
        return value

    def upstreams(self, var: str) -> tuple[Upstream, ...]:
        """Read the servers of a gateway's pool, separated by commas; none by default."""
        texts = [text.strip() for text in self.list(var, default=[])]
        try:
            return parse_upstreams([text for text in texts if text])
        except ValueError as error:
            raise ImproperlyConfigured(f"{var}: {error}") from error

    def unknown_names(self, *, prefix: str) -> list[str]:
        """Variables of ours, by prefix, that no setting has read: most often a misspelling."""
        return sorted(name for name in self.ENVIRON if name.startswith(prefix) and name not in self.names)


def number(text: str) -> float:
    """Read a number as Python does; django-environ drops all letters first and takes "5 minutes" for 5."""
    return float(text)


def check_scheme(var: str, url: str, *, schemes: tuple[str, ...]) -> None:
    """Raise `ImproperlyConfigured` unless `url` starts with one of `schemes`; tells nobody the password in it."""
    if not url.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        starts = ", ".join(f"{scheme}://" for scheme in schemes)
        raise ImproperlyConfigured(f"{var} must start with one of {starts}.")


def broken_url(var: str) -> ImproperlyConfigured:
    """The error for a URL whose parts make no sense; tells nobody the password in it."""
    return ImproperlyConfigured(
        f"{var} is not a valid URL: its port must be a number up to 65535, "
        "and special characters in its password must be percent-encoded."
    )


def read_dotenv(path: Path) -> None:
    """Read `path` into the environment if it exists; variables that are already set win.

    Raises `ImproperlyConfigured` for a line that is neither `NAME=value`, a comment nor empty.
    """
    if not path.is_file():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{path} cannot be read as UTF-8 text: {error}.") from error
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#") and not ASSIGNMENT.match(line):
            raise ImproperlyConfigured(
                f"{path}, line {number}, is not NAME=value: {line.strip()!r}. Correct or remove that line."
            )
    environ.Env.read_env(path)
