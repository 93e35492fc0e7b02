"""The report of a run: a table on the terminal, and a page of Markdown from the template beside this file."""

import os
import platform
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import pysqlite3.dbapi2 as pysqlite3
from rich.table import Table

from benchmarks.measures.bounds import OURS, Figures, Measure, verdicts

LIBRARIES = "fastapi", "uvicorn", "celery", "sqlalchemy", "pydantic", "eventsourcing"

HEADINGS = "measure", "ours", "others", "ratio", "must", "aim", "met?"

ALIGNED = "---", "--:", "---", "--:", "--:", "--:", "---"


def machine() -> str:
    """The machine and the versions of what runs on it."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{os.cpu_count()} cores ({_cpu()}), {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, SQLite {pysqlite3.sqlite_version} "
        f"(in the standard library: {sqlite3.sqlite_version}), {libraries}"
    )


def write(file: Path, measures: Sequence[Measure], figures: Figures, circumstances: str) -> None:
    """Write the page: first the measures with bounds, then the others."""
    bounded = rows([measure for measure in measures if measure.bounds], figures)
    others = rows([measure for measure in measures if not measure.bounds], figures)
    tables = {name: markdown(HEADINGS, ALIGNED, its) for name, its in (("bounded", bounded), ("others", others))}
    fill_in(file, **tables, circumstances=circumstances)


def fill_in(file: Path, **parts: str) -> None:
    """Write a page by the template of its name."""
    template = Path(__file__).with_name(file.name).read_text(encoding="utf-8")
    file.write_text(template.format(**parts), encoding="utf-8")


def table(measures: Sequence[Measure], figures: Figures) -> Table:
    """The table on the terminal."""
    shown = Table(title="medians (least–most of the rounds)", title_justify="left")
    for heading in HEADINGS:
        shown.add_column(heading, justify="left" if heading in ("measure", "others") else "right")
    for row in rows(measures, figures):
        shown.add_row(*row)
    return shown


def markdown(headings: Sequence[str], aligned: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, aligned, *rows]
    return "\n".join(f"| {' | '.join(cell.replace(chr(10), '<br>') for cell in line)} |" for line in lines)


def rows(measures: Sequence[Measure], figures: Figures) -> Iterator[tuple[str, ...]]:
    """A row for each measure; a cell has a line for each bound."""
    for measure in measures:
        by = figures[measure.key]
        than = "≤" if measure.low else "≥"
        cells = []
        for verdict in verdicts(measure, by) if OURS in by else ():
            must, aim, over = verdict.bound
            times = " ×" if over else ""
            ratio = f"{verdict.reached:.2f} × {over}" if over else number(verdict.reached)
            limits = ("" if limit is None else f"{than} {number(limit)}{times}" for limit in (must, aim))
            cells.append((ratio, *limits, verdict.word))
        yield (
            f"{measure.what} ({measure.unit})",
            spread(by[OURS]) if OURS in by else "",
            "\n".join(f"{name} {spread(values)}" for name, values in by.items() if name != OURS),
            *("\n".join(column) for column in ([*zip(*cells, strict=True)] or [()] * 4)),
        )


def spread(values: Sequence[float]) -> str:
    """The median, and the least and the most."""
    return f"{number(median(values))} ({number(min(values))}–{number(max(values))})"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cpu() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return next(line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
