"""How cost grows: with a stream, with the log, with what was done before, with the connections."""

from collections import defaultdict
from itertools import chain

from benchmarks import growing
from benchmarks.bounds import Bound, Measure
from benchmarks.growing import CONNECTIONS, PAGES, ROLES
from benchmarks.rounds import Figures, Say

NOTES = """\
- A command to a stream is handled by a worker in this process, its transaction included; streams take turns.
- A log of 5 million events, and stores that fit it, are compared with 9,999, service after service on the same machine.
- The start of a role is the time until it has answered, handled or projected something, while all others start too.
- Memory is the RSS of each process after a million commands, compared with what it was after 100,000.
- With each number of connections, throughput is compared with the best that fewer of them reach."""

MEASURES = (
    Measure("stream", "a command to a stream of 10,000 events", "ms", (Bound(2, over="10 events"),), low=True),
    Measure("first touch", "… the first after a start", "ms", low=True),
    Measure("journey", "accepted → handled → visible, a log of 5 million", "/s", (Bound(0.85, over="10,000"),)),
    *(Measure(page, f"GET {page}", "ms", (Bound(1.25, over="10,000"),), low=True) for page in PAGES),
    *(Measure(f"start {role}", f"start of {role}", "s", (Bound(2),), low=True) for role in ROLES if role != "beat"),
    *(
        Measure(f"memory {role}", f"{role} after a million", "MB", (Bound(1.1, over="100,000"),), low=True)
        for role in ROLES
    ),
    *(
        Measure(
            f"{number} connections", f"{number} connections", "/s", (Bound(0.8, over="fewer"),) if number > 1 else ()
        )
        for number in CONNECTIONS
    ),
    *(Measure(f"{number} p99", f"{number} connections: POST → visible, p99", "ms", low=True) for number in CONNECTIONS),
)


def run(say: Say) -> Figures:
    figures: Figures = defaultdict(lambda: defaultdict(list))
    for key, who, value in chain(growing.stream(), growing.connections(), growing.log(), growing.memory()):
        figures[key][who].append(value)
        say(f"{key}: {who} {value:,.2f}")
    return figures
