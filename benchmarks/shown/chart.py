"""The ratios as a picture: beside the usual stack, and as a share of what the machine allows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measures.bounds import Figures, Measure, verdicts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR, MUST, AIM, TEXT = "#4a8fd0", "#e0703a", "#4fa55c", "#858d97"
"""Colours that can be told from white and from black."""


class Bar(NamedTuple):
    """A ratio, and what it must and should be."""

    what: str
    ratio: float
    must: float
    aim: float | None


def write(file: Path, measures: Sequence[Measure], figures: Figures) -> None:
    """Draw the ratios. The same figures make the same file."""
    beside, share = bars(measures, figures)
    figure = drawing(0.42 * (len(beside) + len(share)) + 1.6)
    upper, lower = figure.subplots(2, 1, height_ratios=[len(beside), len(share)])
    _draw(upper, beside, "times as fast as the usual stack or library", "{:.1f} ×")
    upper.set_xscale("log")
    upper.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    upper.minorticks_off()
    _draw(lower, share, "share of what the machine allows, which is 1", "{:.2f}")
    lower.set_xlim(0, 1.15)
    for limit, colour in (("must", MUST), ("aim", AIM)):
        lower.plot([], [], "|", color=colour, label=limit, markersize=12, markeredgewidth=2)
    figure.legend(loc="outside upper right", frameon=False, labelcolor=TEXT, ncols=2)
    save(figure, file)


def drawing(height: float) -> "Figure":
    """An empty picture, so many inches high."""
    # To load matplotlib takes a second, and mostly nothing is drawn.
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "cqrs", "font.size": 10, "text.color": TEXT})
    return Figure(figsize=(9, height), layout="constrained")


def save(figure: "Figure", file: Path) -> None:
    """Write it without a date, which would make each file another."""
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})


def plain(axes: "Axes", title: str) -> None:
    """Take away all but the title and the labels."""
    axes.set_title(title, loc="left", fontsize=10, color=TEXT)
    axes.tick_params(colors=TEXT, labelsize=8, length=0)
    axes.spines[:].set_visible(False)


def bars(measures: Sequence[Measure], figures: Figures) -> tuple[list[Bar], list[Bar]]:
    """The bars beside others, and of floors. Where less is better, a bar shows how many times less."""
    beside: list[Bar] = []
    share: list[Bar] = []
    for measure in measures:
        for (must, aim, over), reached, low in verdicts(measure, figures[measure.key]):
            if over:
                ratios = (1 / reached, 1 / must, aim and 1 / aim) if low else (reached, must, aim)
                (share if over.startswith("floor") else beside).append(Bar(f"{measure.what}\nbeside {over}", *ratios))
    return beside, share


def _draw(axes: "Axes", bars: Sequence[Bar], title: str, form: str) -> None:
    drawn = axes.barh([bar.what for bar in bars], [bar.ratio for bar in bars], height=0.55, color=BAR)
    axes.bar_label(drawn, [form.format(bar.ratio) for bar in bars], label_type="center", color="white")
    for row, bar in enumerate(bars):
        for limit, colour in ((bar.must, MUST), (bar.aim, AIM)):
            if limit:
                axes.plot([limit, limit], [row - 0.4, row + 0.4], color=colour, linewidth=2)
    plain(axes, title)
    axes.axvline(1, color=TEXT, linewidth=0.8, zorder=0)
    axes.invert_yaxis()
    axes.margins(x=0.15)
