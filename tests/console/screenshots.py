"""`make screenshots`: the pictures of the console in the README, of a service that has worked for an hour."""

import math
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from pathlib import Path
from unittest import mock

from playwright.sync_api import Browser, sync_playwright

from benchmarks.load.people import invent
from cli.stores.init import init
from shared import clock
from shared.database import engines
from shared.domain.projections import PROJECTIONS
from shared.settings import Settings
from shared.stores import advances
from shared.stores.event_store import LOCK as LOG
from shared.stores.inbox import LOCK as INBOX
from shared.stores.inbox import accept
from shared.stores.subjects import Subjects, heed
from tests.support import browser as found
from tests.support.service import Service, up
from tests.support.stores import create, new_handler, update
from workers.projecting.runner import catch_up

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"

STEP = timedelta(seconds=5)

OPTIONS = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]


def main() -> None:
    """Make the pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        settings = Settings(data_dir=data, _env_file=None)
        init(settings)
        work_for_an_hour(settings)
        with up(data) as service, sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=found.path(), args=OPTIONS)
            picture(browser, service, "/console", "overview")
            picture(browser, service, f"/console/commands/{of_a_user_who_moves(service)}", "command", theme="dark")
            browser.close()


def of_a_user_who_moves(service: Service) -> str:
    """The id of the second of two commands that one request after the other sends."""
    [person] = invent(1)
    together = {"Prefer": "wait=20", "X-Request-ID": "order-4711"}
    user = service.http.post("/users/", json=person.body(), headers=together).headers["location"]
    service.http.put(user, json={"email": f"moved.{person.email}"}, headers=together)
    id: str = service.http.get("/commands/?limit=1").json()[0]["command_id"]
    return id


def picture(browser: Browser, service: Service, path: str, name: str, *, theme: str = "light") -> None:
    """A picture of a page, once it is whole."""
    size = {"width": 1280, "height": 860}
    context = browser.new_context(base_url=service.url, viewport=size, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(path)
    page.wait_for_timeout(2000)  # a live page is renewed once
    page.screenshot(path=PICTURES / f"console-{name}.png")
    context.close()


def work_for_an_hour(settings: Settings) -> None:
    """Have commands handled as they might have been in the hour before: more and fewer, most succeed."""
    chance, people = random.Random(1), iter(invent(20_000))
    inbox, log = (
        engines.writer(url, lock=lock) for url, lock in ((settings.inbox, INBOX), (settings.event_store, LOG))
    )
    now = datetime.now(UTC) - timedelta(hours=1)
    with closing(Subjects.of(settings)) as subjects, at(now) as stand:
        handler = new_handler(settings, heed(log, subjects))
        heed(inbox, subjects)
        reader = heed(engines.reader(settings.event_store), subjects)
        models = [
            (each, engines.writer(settings.read_model_of(name), lock=name, durable=False))
            for name, each in PROJECTIONS.items()
        ]
        users = 0
        while now < datetime.now(UTC) - STEP:
            rate = 12 + 8 * math.sin(now.timestamp() / 500) + chance.uniform(-3, 3)
            new = [create(person.email) for person in islice(people, int(rate))]
            taken = [update(chance.randint(1, users), new[0].data["email"])] if users and chance.random() < 0.5 else []
            users += len(new)
            stand(now)
            with inbox.begin() as connection:
                accept(connection, [*new, *taken])
            stand(now + timedelta(milliseconds=chance.uniform(2, 9)))
            handler.handle()
            stand(now + timedelta(milliseconds=chance.uniform(10, 22)))
            for which, read_model in models:
                while catch_up(reader, read_model, which):
                    pass
            now += STEP


@contextmanager
def at(moment: datetime) -> Iterator[Callable[[datetime], None]]:
    """Times that are written are those that one sets."""
    present = [moment]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls.fromtimestamp(present[0].timestamp(), tz)

    def stand(moment: datetime) -> None:
        present[0] = moment

    with mock.patch.object(clock, "datetime", Clock), mock.patch.object(advances, "datetime", Clock):
        yield stand


if __name__ == "__main__":
    main()
