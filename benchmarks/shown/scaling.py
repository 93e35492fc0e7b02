"""What more processes give, as tables and as a picture, and what a cluster would by the same figures."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.contestants.services import ROLES
from benchmarks.measures.bounds import OURS, Figures, ratios
from benchmarks.measures.scaling import APIS, ENGINES, ONE, WORKERS, key
from benchmarks.shown import chart
from benchmarks.shown.report import fill_in, markdown, number, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLIENT = "client"

HOSTS = 1, 2, 4, 8

CORES = 2
"""Of each host."""

COLOURS = "#4a8fd0", "#e0703a"

WORKERS_NAMED = [f"{workers} command worker{'s' if workers > 1 else ''}" for workers in WORKERS]


def write(file: Path, figures: Figures, circumstances: str) -> None:
    """Write the page."""
    fill_in(
        file,
        rates=_table(["API processes", *WORKERS_NAMED, "most ÷ one"], _rates(figures)),
        cpu=_table(["API processes", "command workers", *ROLES, CLIENT, "all"], _cpu(figures)),
        serial=_table(["accepted", *(f"handled by {n}" for n in WORKERS), "log locked", "projected"], _serial(figures)),
        cluster=_table([*(f"{n} × {CORES} cores" for n in HOSTS), "what ends it"], _cluster(figures)),
        circumstances=circumstances,
    )


def draw(file: Path, figures: Figures) -> None:
    """Draw the rates. The same figures make the same file."""
    figure = chart.drawing(3.6)
    for axes, engine in zip(figure.subplots(1, len(ENGINES), sharey=True), ENGINES, strict=True):
        for place, apis in enumerate(APIS):
            _bars(axes, [figures[key(engine, apis, workers)][OURS] for workers in WORKERS], apis=apis, place=place)
        axes.set_xticks(range(len(WORKERS)), WORKERS_NAMED)
        chart.plain(axes, f"{engine}: commands a second to visible")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, labelcolor=chart.TEXT, ncols=2)
    chart.save(figure, file)


def _bars(axes: "Axes", rates: Sequence[Sequence[float]], *, apis: int, place: int) -> None:
    middles = [median(its) for its in rates]
    spreads = [(middle - min(its), max(its) - middle) for middle, its in zip(middles, rates, strict=True)]
    where = [n + 0.4 * place - 0.2 for n in range(len(rates))]
    label = f"{apis} API process{'es' if apis > 1 else ''}"
    drawn = axes.bar(where, middles, 0.36, color=COLOURS[place], label=label)
    axes.errorbar(where, middles, yerr=list(zip(*spreads, strict=True)), fmt="none", ecolor=chart.TEXT)
    axes.bar_label(drawn, [number(middle) for middle in middles], label_type="center", color="white", fontsize=8)


def _rates(figures: Figures) -> Iterator[list[str]]:
    for engine, apis in product(ENGINES, APIS):
        its = [figures[key(engine, apis, workers)] for workers in WORKERS]
        yield [engine, str(apis), *(spread(each[OURS]) for each in its), f"{median(ratios(its[-1], ONE)):.2f}"]


def _cpu(figures: Figures) -> Iterator[list[str]]:
    for engine, apis, workers in product(ENGINES, APIS, WORKERS):
        spent = _spent(figures, engine, apis, workers)
        each = [f"{spent[role]:.3f}" for role in (*ROLES, CLIENT)]
        yield [engine, str(apis), str(workers), *each, f"{sum(spent.values()):.3f}"]


def _serial(figures: Figures) -> Iterator[list[str]]:
    for engine in ENGINES:
        keys = [key(engine, "accepted"), *(key(engine, "backlog", n) for n in WORKERS), key(engine, "projected")]
        *rates, projected = (spread(figures[each][OURS]) for each in keys)
        shares = [f"{100 * median(figures[key(engine, 'backlog', n, 'lock')][OURS]):.0f}" for n in WORKERS]
        yield [engine, *rates, f"{' / '.join(shares)} %", projected]


def _cluster(figures: Figures) -> Iterator[list[str]]:
    engine = ENGINES[-1]
    spent = _spent(figures, engine, 1, 1)
    ceilings = {
        "accepting": median(figures[key(engine, "accepted")][OURS]),
        "handling": median(figures[key(engine, "backlog", 1)][OURS]),
        "projecting": median(figures[key(engine, "projected")][OURS]),
        "PostgreSQL's cores": 1000 * CORES / spent["PostgreSQL"],
    }
    what, ceiling = min(ceilings.items(), key=lambda item: item[1])
    reached = [min(hosts * 1000 * CORES / spent["API"], ceiling) for hosts in HOSTS]
    yield [engine, *map(number, reached), f"{what}: {number(ceiling)}"]


def _spent(figures: Figures, engine: str, apis: int, workers: int) -> dict[str, float]:
    return {role: median(values) for role, values in figures[key(engine, apis, workers, "CPU")].items()}


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return markdown(["", *headings], ["---", *("--:" for _ in headings)], rows)
