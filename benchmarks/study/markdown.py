"""The parts of docs/study.md, as Markdown has them."""

import textwrap
from collections.abc import Sequence
from typing import Any

from benchmarks.study.verdicts import Verdict


def in_words(machine: dict[str, Any]) -> str:
    """A machine and its software."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}, {packages}"
    )


def wrapped(part: str) -> str:
    """A paragraph in lines of a page's width; anything else as it is."""
    is_paragraph = not part.startswith(("|", "#", "!", "```")) and "\n" not in part
    return textwrap.fill(part, 118, break_on_hyphens=False, break_long_words=False) if is_paragraph else part


def verdict_row(verdict: Verdict) -> tuple[str, str, str, str]:
    """A goal as a row."""
    return verdict.about, verdict.statement, "met" if verdict.holds else "**missed**", verdict.figures


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A head, and rows under it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
