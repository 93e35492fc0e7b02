"""The console's pages, one module each."""

from api.console import signing_in
from api.console.pages import Pages
from api.console.screens import commands, log, overview, projections, search, streams, system
from api.http.routing import Router


def routers(*of_team: Pages) -> list[Router]:
    """All pages, in the menu's order, in which those of a team stand before the system's."""
    return [
        signing_in.router,
        signing_in.files,
        overview.router,
        *commands.ROUTERS,
        log.router,
        streams.router,
        projections.router,
        *of_team,
        *system.ROUTERS,
        search.router,
    ]
