"""Typed readers of the environment that answer a mistake with a sentence instead of a traceback."""

import re
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

ASSIGNMENT = re.compile(r"(?:export )?[A-Za-z_][A-Za-z_0-9]*=")

YES = {"true", "yes", "on", "1", "y", "t", "ok"}
NO = {"false", "no", "off", "0", "n", "f", ""}


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
        """Read a variable that must be one of `options`."""
        value = self.str(var, default=default)
        if value not in options:
            raise ImproperlyConfigured(f"{var}={value!r} is not one of {', '.join(options)}.")
        return str(value)

    def unknown_names(self, *, prefix: str) -> list[str]:
        """Variables of ours, by prefix, that no setting has read: most often a misspelling."""
        return sorted(name for name in self.ENVIRON if name.startswith(prefix) and name not in self.names)


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
