"""What came out, as a table: on the terminal and as Markdown."""

import os
import platform
import sqlite3
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import pysqlite3.dbapi2 as pysqlite3
from rich.table import Table

from benchmarks.bounds import OURS, Bound, Measure, Verdict, verdicts
from benchmarks.rounds import Figures

LIBRARIES = "fastapi", "uvicorn", "celery", "sqlalchemy", "pydantic", "eventsourcing"

HEADINGS = "measure", "ours", "others", "ratio", "must", "aim", "met?"

EXPLAINED = """\
Medians, and the least and the most of the rounds. A ratio is the median of each round's own. “Met” is `aim`, `yes` for
must, `nearly` if must is missed by no more than noise explains (a factor of 0.7), else `no`."""


def machine() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{os.cpu_count()} cores ({_cpu()}), {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, SQLite {pysqlite3.sqlite_version} "
        f"(in the standard library: {sqlite3.sqlite_version}), {libraries}"
    )


def write(file: Path, title: str, measures: Sequence[Measure], figures: Figures, *notes: str) -> None:
    bounded = [measure for measure in measures if measure.bounds]
    others = [measure for measure in measures if not measure.bounds]
    tables = markdown(bounded, figures), "Besides:", markdown(others, figures)
    parts = [f"# {title}", EXPLAINED, *tables, *notes]
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def table(measures: Sequence[Measure], figures: Figures) -> Table:
    shown = Table(title="medians (least–most of the rounds)", title_justify="left")
    for heading in HEADINGS:
        shown.add_column(heading, justify="left" if heading in ("measure", "others") else "right")
    for row in rows(measures, figures):
        shown.add_row(*row)
    return shown


def markdown(measures: Sequence[Measure], figures: Figures) -> str:
    lines = [HEADINGS, ["---", "--:", "---", "--:", "--:", "--:", "---"], *rows(measures, figures)]
    return "\n".join(f"| {' | '.join(cell.replace(chr(10), '<br>') for cell in line)} |" for line in lines)


def rows(measures: Sequence[Measure], figures: Figures) -> Iterator[tuple[str, ...]]:
    for measure in measures:
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
