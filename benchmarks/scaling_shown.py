"""What more processes give, as tables and as a picture, and what a cluster would by the same figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes

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
Each alone, at a backlog, in transactions of up to 500 (5,000 for the projection). At each of the three one transaction
is at work at a time, since the commands have one order, the log has one, and a projection goes through the log in
that order: more processes only mean that one is always there. The share is that of the time for which a worker has the
log's lock while 1, 2 and 4 of them handle the backlog."""

ARITHMETIC = """\
What scales out is the API: it reads requests, answers queries, and waits for the inbox. N hosts for it alone accept
`N × cores ÷ CPU of the API a command`, until the slowest of the three that take turns, or PostgreSQL's own host, is at
its end. Commands a second by the medians above, each other role on a host of its own, the network not counted:"""

BEYOND = """\
Past that the one order has to go. By tenant: each has an inbox, a log and read models of its own (three URLs, a
`data_dir`), and commands of different tenants never meet. By aggregate: streams are shared among several such
services by a hash of their number, and a router in front knows which has which. Either multiplies what takes turns,
and PostgreSQL's cores, by the number of partitions. It gives up one order of all events (a position counts in its
partition only, so `min_position` needs one for each, and a projection over all merges logs that have no order among
them) and, by aggregate, uniqueness across partitions: an address would have to be reserved in a partition of its own,
chosen by the address, before the user is created in another."""


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
        "## And past that",
        BEYOND,
        circumstances,
    ]
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def draw(file: Path, figures: Figures) -> None:
    """The same figures make the same file."""
    figure = chart.drawing(3.6)
    for axes, engine in zip(figure.subplots(1, len(ENGINES), sharey=True), ENGINES, strict=True):
        for place, apis in enumerate(APIS):
            its = [figures[scaling.sustained(engine, apis, workers)][OURS] for workers in WORKERS]
            _bars(axes, its, apis=apis, place=place)
        axes.set_xticks(range(len(WORKERS)), [_workers(workers) for workers in WORKERS])
        chart.plain(axes, f"{engine}: commands a second to visible")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, labelcolor=chart.TEXT, ncols=2)
    chart.save(figure, file)


def _bars(axes: Axes, rates: Sequence[Sequence[float]], *, apis: int, place: int) -> None:
    middles = [median(its) for its in rates]
    spreads = [(middle - min(its), max(its) - middle) for middle, its in zip(middles, rates, strict=True)]
    where = [n + 0.4 * place - 0.2 for n in range(len(rates))]
    label = f"{apis} API process{'es' if apis > 1 else ''}"
    drawn = axes.bar(where, middles, 0.36, color=COLOURS[place], label=label)
    axes.errorbar(where, middles, yerr=list(zip(*spreads, strict=True)), fmt="none", ecolor=chart.TEXT)
    axes.bar_label(drawn, [number(middle) for middle in middles], label_type="center", color="white", fontsize=8)


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
