"""What came out, as a table: on the terminal and as Markdown."""

import os
import platform
import sqlite3
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median

import pysqlite3.dbapi2 as pysqlite3
from rich.table import Table

from benchmarks.measures import MEASURES, OURS, Bound, Measure, Verdict, verdicts
from benchmarks.rounds import Figures

LIBRARIES = "fastapi", "uvicorn", "celery", "sqlalchemy", "pydantic", "eventsourcing"

HEADINGS = "measure", "ours", "others", "ratio", "must", "aim", "met?"


def machine() -> str:
    libraries = ", ".join(
        f"{name} {version(name)}"
        for name in ("fastapi", "uvicorn", "celery", "sqlalchemy", "pydantic", "eventsourcing")
    )
    return (
        f"{os.cpu_count()} cores ({_cpu()}), {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, SQLite {pysqlite3.sqlite_version} "
        f"(in the standard library: {sqlite3.sqlite_version}), {libraries}"
    )


def table(figures: Figures) -> Table:
    shown = Table(title="medians (least–most of the rounds)", title_justify="left")
    for heading in HEADINGS:
        shown.add_column(heading, justify="left" if heading in ("measure", "others") else "right")
    for row in rows(figures):
        shown.add_row(*row)
    return shown


def markdown(figures: Figures) -> str:
    lines = [HEADINGS, ["---", "--:", "---", "--:", "--:", "--:", "---"], *rows(figures)]
    return "\n".join(f"| {' | '.join(cell.replace(chr(10), '<br>') for cell in line)} |" for line in lines)


def rows(figures: Figures) -> Iterator[tuple[str, ...]]:
    for measure in MEASURES:
        by = figures[measure.key]
        judged = verdicts(measure, by) if OURS in by else []
        yield (
            f"{measure.what} ({measure.unit})",
            spread(by[OURS]) if OURS in by else "",
            "\n".join(f"{name} {spread(values)}" for name, values in by.items() if name != OURS),
            "\n".join(_ratio(verdict) for verdict in judged),
            "\n".join(_limit(measure, verdict.bound, verdict.bound.must) for verdict in judged),
            "\n".join(_limit(measure, verdict.bound, verdict.bound.aim) for verdict in judged),
            "\n".join(_word(verdict) for verdict in judged),
        )


def spread(values: list[float]) -> str:
    return f"{number(median(values))} ({number(min(values))}–{number(max(values))})"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(verdict: Verdict) -> str:
    return f"{verdict.reached:.2f} × {verdict.bound.over}" if verdict.bound.over else number(verdict.reached)


def _limit(measure: Measure, bound: Bound, value: float | None) -> str:
    if value is None:
        return ""
    return f"{'≤' if measure.low else '≥'} {number(value)}{' ×' if bound.over else ''}"


def _word(verdict: Verdict) -> str:
    if verdict.bound.aim is not None and verdict.aimed:
        return "aim"
    return "yes" if verdict.met else "no" if verdict.broken else "nearly"


def _cpu() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return next(line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
