"""What more processes give, as tables and as a picture, and what a cluster would by the same figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks import chart, scaling
from benchmarks.bounds import OURS
from benchmarks.report import number, spread
from benchmarks.rounds import Figures
from benchmarks.scaled import REST, ROLES
from benchmarks.scaling import APIS, ENGINES, ONE, WORKERS

CLIENT = "client"

HOSTS = 1, 2, 4, 8

CORES = 2
"""Of each host."""

COLOURS = "#4a8fd0", "#e0703a"

EXPLAINED = """\
Commands a second from the first POST until all is visible, with 64 connections that are shared among the API processes;
the load generator and all processes, PostgreSQL's too, share this machine. Medians, and the least and the most of the
rounds, which alternate; the ratio is the median of each round's own."""

SERIAL = """\
Each alone, at a backlog, in transactions of up to 500 (5,000 for the projection). Each takes turns at one lock: more
processes than one only mean that one is always there. The share is that of the time for which a worker holds the
log's lock while so many of them handle the backlog."""

ARITHMETIC = """\
N hosts that run API processes get `N × cores ÷ CPU of the API a command`, until the first of those three that take
turns is at its end; PostgreSQL has a host of its own. Commands a second by the medians above:"""


def write(file: Path, figures: Figures, circumstances: str) -> None:
    parts = [
        "# What more processes give",
        EXPLAINED,
        _markdown(["", "API processes", *map(_workers, WORKERS), "most ÷ one"], _rates(figures)),
        "![The same as a picture](scaling.svg)",
        "## Whose CPU it takes",
        "Milliseconds of CPU a command, by role; medians.",
        _markdown(["", "API processes", "command workers", *ROLES, REST, CLIENT, "all"], _cpu(figures)),
        "## What takes turns",
        SERIAL,
        _markdown(["", "accepted", *(f"handled by {n}" for n in WORKERS), "log locked", "projected"], _serial(figures)),
        "## What a cluster would give",
        ARITHMETIC,
        _markdown(["", *(f"{n} × {CORES} cores" for n in HOSTS), "what ends it"], _cluster(figures)),
        circumstances,
    ]
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def draw(file: Path, figures: Figures) -> None:
    """The same figures make the same file."""
    figure = chart.drawing(3.6)
    for axes, engine in zip(figure.subplots(1, len(ENGINES), sharey=True), ENGINES, strict=True):
        for place, (apis, colour) in enumerate(zip(APIS, COLOURS, strict=True)):
            its = [figures[scaling.sustained(engine, apis, workers)][OURS] for workers in WORKERS]
            middles = [median(values) for values in its]
            errors = [
                [m - min(v) for m, v in zip(middles, its, strict=True)],
                [max(v) - m for m, v in zip(middles, its, strict=True)],
            ]
            where = [n + 0.4 * place - 0.2 for n in range(len(WORKERS))]
            label = f"{apis} API process{'es' if apis > 1 else ''}" if engine == ENGINES[0] else None
            bars = axes.bar(where, middles, 0.36, yerr=errors, color=colour, ecolor=chart.TEXT, label=label)
            axes.bar_label(bars, [number(middle) for middle in middles], label_type="center", color="white", fontsize=8)
        axes.set_xticks(range(len(WORKERS)), [_workers(workers) for workers in WORKERS])
        chart.plain(axes, f"{engine}: commands a second to visible")
    figure.legend(loc="outside lower center", frameon=False, labelcolor=chart.TEXT, ncols=2)
    chart.save(figure, file)


def _rates(figures: Figures) -> Iterator[list[str]]:
    for engine in ENGINES:
        for apis in APIS:
            its = [figures[scaling.sustained(engine, apis, workers)] for workers in WORKERS]
            most = its[-1]
            ratio = median(our / their for our, their in zip(most[OURS], most[ONE], strict=True))
            yield [engine, str(apis), *(spread(each[OURS]) for each in its), f"{ratio:.2f}"]


def _cpu(figures: Figures) -> Iterator[list[str]]:
    for engine in ENGINES:
        for apis in APIS:
            for workers in WORKERS:
                spent = _spent(figures, engine, apis, workers)
                each = [f"{spent[role]:.3f}" for role in (*ROLES, REST, CLIENT)]
                yield [engine, str(apis), str(workers), *each, f"{sum(spent.values()):.3f}"]


def _serial(figures: Figures) -> Iterator[list[str]]:
    for engine in ENGINES:
        rates = [scaling.accepted(engine), *(scaling.handled(engine, workers) for workers in WORKERS)]
        shares = [f"{100 * _middle(figures, scaling.locked(engine, workers)):.0f}" for workers in WORKERS]
        projected = spread(figures[scaling.projected(engine)][OURS])
        yield [engine, *(spread(figures[key][OURS]) for key in rates), f"{' / '.join(shares)} %", projected]


def _cluster(figures: Figures) -> Iterator[list[str]]:
    engine = ENGINES[-1]
    spent = _spent(figures, engine, 1, 1)
    ceilings = {
        "accepting": _middle(figures, scaling.accepted(engine)),
        "handling": _middle(figures, scaling.handled(engine, 1)),
        "projecting": _middle(figures, scaling.projected(engine)),
        "PostgreSQL's cores": 1000 * CORES / spent["PostgreSQL"],
    }
    what, ceiling = min(ceilings.items(), key=lambda item: item[1])
    reached = [min(hosts * 1000 * CORES / spent["API"], ceiling) for hosts in HOSTS]
    yield [engine, *map(number, reached), f"{what}: {number(ceiling)}"]


def _spent(figures: Figures, engine: str, apis: int, workers: int) -> dict[str, float]:
    return {role: median(values) for role, values in figures[scaling.cpu(engine, apis, workers)].items()}


def _middle(figures: Figures, key: str) -> float:
    return median(figures[key][OURS])


def _workers(workers: int) -> str:
    return f"{workers} command worker{'s' if workers > 1 else ''}"


def _markdown(heads: Sequence[str], rows: Iterator[list[str]]) -> str:
    lines = [heads, ["---", *("--:" for _ in heads[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
