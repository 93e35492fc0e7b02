"""What is measured beside others, and what it must reach."""

from benchmarks.bounds import Bound, Measure

NOTES = """\
- Contestants take turns in every round, each alone on the machine with the load generator.
- `naive-celery` is polled for what is visible: every millisecond one at a time, and by a look into its file every 50 ms
  at full load. Ours is asked with `Prefer: wait`, and by the same polling for comparison.
- `eventsourcing` sets WAL and leaves `synchronous` at FULL, as our event store does. Its view is FULL as well, and it
  has no setting for that; ours is NORMAL, since it can be rebuilt. So its projection is measured at NORMAL, too.
- `floor-sqlite` inserts the rows that our event store wrote, as they are, into tables like its own."""

MEASURES = (
    Measure(
        "sustained",
        "accepted → handled → visible, 64 connections",
        "/s",
        (Bound(20, 30, "naive-celery"), Bound(0.45, 0.6, "floor-http")),
    ),
    Measure(
        "low load", "POST → visible, one at a time, p50", "ms", (Bound(0.6, 0.4, "naive-celery"), Bound(15)), low=True
    ),
    Measure("low load p99", "POST → visible, one at a time, p99", "ms", (Bound(60),), low=True),
    Measure("polled", "POST → visible, one at a time, polled, p50", "ms", low=True),
    Measure("half p50", "POST → visible at half of its maximum, p50", "ms", low=True),
    Measure("half p99", "POST → visible at half of its maximum, p99", "ms", (Bound(60, 25),), low=True),
    Measure("full p50", "POST → visible at full load, p50", "ms", low=True),
    Measure("full p99", "POST → visible at full load, p99", "ms", low=True),
    Measure("GET", "GET /users/{id}, 32 connections", "/s", (Bound(4, 5, "naive-sync"), Bound(0.5, 0.7, "floor-http"))),
    Measure(
        "append 1",
        "append, 1 event a transaction",
        "/s",
        (Bound(0.6, 0.85, "floor-sqlite"), Bound(0.9, 1.2, "eventsourcing")),
    ),
    Measure(
        "append 100",
        "append, 100 streams a transaction",
        "/s",
        (Bound(0.6, 0.85, "floor-sqlite"), Bound(2, 3, "eventsourcing")),
    ),
    Measure("read", "reading the log, decoded", "/s", (Bound(2, 4, "eventsourcing"),)),
    Measure("rebuild", "rebuilding the users", "/s", (Bound(60_000, 120_000), Bound(15, over="eventsourcing"))),
    Measure("rebuild NORMAL", "rebuilding, the library's view at NORMAL", "/s"),
    Measure("handle", "command worker alone, a backlog of 20,000", "/s", (Bound(10_000, 20_000),)),
    Measure("CPU", "CPU of all processes a command", "ms", low=True),
    Measure("client", "CPU of the load generator", "% of a core", low=True),
    Measure("start", "start until ready", "s", low=True),
    Measure("first", "start until the first user is visible", "s", low=True),
    Measure("idle CPU", "idle: CPU of all processes", "% of a core", (Bound(3),), low=True),
    Measure("idle memory", "idle: memory of all processes", "MB", (Bound(600),), low=True),
    Measure("stop", "stop until no process is left", "s", low=True),
)
