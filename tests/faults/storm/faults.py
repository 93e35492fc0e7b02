"""What is done to the service: the schedule, a pure function of the seed, and each fault as it is done."""

import math
import random
import shutil
from typing import Literal, NamedTuple

import psutil
from redis import Redis

from shared.broker import address
from shared.settings import Settings
from tests.support.postgresql import Postgres
from tests.support.service import Service, eventually

COMMAND_WORKERS = 3
WORKERS = (*(f"command-worker-{number}" for number in range(1, COMMAND_WORKERS + 1)), "projection-worker-1")
ROLES = ("api", *WORKERS, "valkey")

Engine = Literal["sqlite", "postgresql"]

LONGEST_PAUSE = 1.0
"""Seconds between recovery from one fault and the next, at most."""

FREEZE, LONG_FREEZE = 12.0, 65.0
"""Seconds: longer than the stores' busy timeout (10 s); longer than Celery's visibility timeout (60 s)."""

KILLS_IN_DECK: dict[Engine, int] = {"sqlite": 9, "postgresql": 10}
DECKS_TO_A_FREEZE = 2
FREEZES_TO_A_LONG_ONE = 5


class Fault(NamedTuple):
    """`seconds` is how long a freeze lasts; `pause` how long the storm holds its breath before the fault."""

    kind: Literal["kill", "forget", "flush", "freeze", "crash", "cut"]
    roles: tuple[str, ...]
    pause: float = 0.0
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """Processes killed, PostgreSQL's all as one. The other kinds kill none."""
        return len(self.roles) if self.kind in {"kill", "forget", "crash"} else 0

    @property
    def name(self) -> str:
        roles = " and ".join(sorted(role.rstrip("-0123456789") for role in self.roles))
        match self.kind:
            case "kill":
                return "two at once" if len(self.roles) > 1 else roles
            case "forget":
                return "valkey, its files deleted"
            case "flush":
                return "FLUSHALL"
            case "freeze":
                return f"{roles} frozen {self.seconds:.0f} s"
            case "crash":
                return "postgresql, all its processes"
            case "cut":
                return f"{roles}'s connections ended"


def schedule(seed: int, kills: int, engine: Engine = "sqlite") -> list[Fault]:
    """Faults that kill so many processes, dealt like cards: every kind comes up before one comes again."""
    chance = random.Random(f"faults of {seed}")
    faults: list[Fault] = []
    for number in range(math.ceil(kills / KILLS_IN_DECK[engine])):
        for fault in _deck(chance, number, engine):
            if sum(each.kills for each in faults) + fault.kills <= kills:
                faults.append(fault._replace(pause=chance.uniform(0, LONGEST_PAUSE)))
    return faults


def _deck(chance: random.Random, number: int, engine: Engine) -> list[Fault]:
    deck = [Fault("kill", (role,)) for role in ROLES]
    deck += [Fault("kill", tuple(chance.sample(ROLES, 2))), Fault("forget", ("valkey",)), Fault("flush", ())]
    freezes, other = divmod(number, DECKS_TO_A_FREEZE)
    if not other:
        is_long = freezes % FREEZES_TO_A_LONG_ONE == FREEZES_TO_A_LONG_ONE - 1
        deck.append(Fault("freeze", (chance.choice(WORKERS),), seconds=LONG_FREEZE if is_long else FREEZE))
    if engine == "postgresql":
        deck += [Fault("crash", ("postgresql",)), Fault("cut", ("api",))]
        deck += [Fault("cut", (chance.choice(WORKERS[:-1]),)), Fault("cut", WORKERS[-1:])]
    chance.shuffle(deck)
    return deck


def victims(service: Service, fault: Fault) -> list[psutil.Process]:
    """The processes of the fault's roles, once all are there."""

    def running() -> list[psutil.Process] | None:
        found = [service.role(role) for role in fault.roles]
        return None if None in found else found

    return eventually(running, within=20) if fault.roles and fault.kind != "crash" else []


def strike(processes: list[psutil.Process], fault: Fault, settings: Settings, server: Postgres | None) -> None:
    """Do it. A frozen process stays so until it is resumed; PostgreSQL is back when this returns."""
    match fault.kind:
        case "kill" | "forget":
            for process in processes:
                process.kill()
        case "freeze":
            for process in processes:
                process.suspend()
        case "flush":
            with Redis(unix_socket_path=str(address.socket_of(settings)), socket_timeout=5) as redis:
                redis.flushall()
        case "crash" if server:
            server.stop(at_once=True)
            server.start()
        case "cut" if server:
            server.cut(*processes)
    if fault.kind == "forget":
        processes[0].wait(5)
        shutil.rmtree(settings.data_dir / "valkey" / "appendonlydir", ignore_errors=True)
