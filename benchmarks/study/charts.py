"""Charts of the study as SVG that reads well on light and on dark pages."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

INK = "#010203"  # stands for the colour of text until the file is written
STYLE = "<style>svg{--ink:#1f2933}@media(prefers-color-scheme:dark){svg{--ink:#e4e7eb}}</style>"
COLOURS = ("#4c6ef5", "#f08c00", "#2f9e44", "#e03131", "#9c36b5", "#0c8599")
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "study",  # equal figures give equal files
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "figure.constrained_layout.use": True,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    **dict.fromkeys(("axes.labelcolor", "axes.edgecolor", "axes.titlecolor"), INK),
}


def bars(
    path: Path,
    *,
    title: str,
    unit: str,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float]],
    is_logarithmic: bool = False,
) -> None:
    """One bar per series in each group, with its value."""
    with mpl.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(7.6, 3.2))
        width = 0.8 / len(series)
        for place, (name, values) in enumerate(series.items()):
            left = [group + (place - (len(series) - 1) / 2) * width for group in range(len(groups))]
            drawn = axes.bar(left, values, width * 0.92, label=name)
            axes.bar_label(drawn, fmt=written, fontsize=8, padding=1)
        axes.set_xticks(range(len(groups)), groups)
        if all(isinstance(value, int) for values in series.values() for value in values):
            axes.yaxis.get_major_locator().set_params(integer=True)
        if is_logarithmic:
            axes.set_yscale("log")
        axes.margins(y=0.15)
        finish(figure, axes, path, title=title, unit=unit, has_legend=len(series) > 1)


def written(value: float) -> str:
    """Three digits, or all of a whole number."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def lines(
    path: Path, *, title: str, unit: str, below: str, series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> None:
    """One line per series: what it was at which moment or size."""
    with mpl.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(7.6, 3.2))
        for name, (across, up) in series.items():
            axes.plot(across, up, label=name, linewidth=1.8)
        axes.set_xlabel(below)
        axes.set_ylim(bottom=0)
        finish(figure, axes, path, title=title, unit=unit, has_legend=True)


def finish(figure, axes, path: Path, *, title: str, unit: str, has_legend: bool) -> None:  # type: ignore[no-untyped-def]
    """Title, unit and legend, and write the file."""
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_ylabel(unit)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    if has_legend:
        figure.legend(loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = path.read_text().replace(INK, "var(--ink)")
    text = re.sub(r"(<svg[^>]*>)", rf"\1{STYLE}", text, count=1)
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")
