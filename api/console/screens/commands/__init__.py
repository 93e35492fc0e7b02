"""Commands: the list, failures by their causes, and the page of each command."""

from api.console.pages import Pages
from api.console.screens.commands import failures, listing, one

ROUTERS: list[Pages] = [each.router for each in (listing, failures, one)]
"""That of single commands is the last: any word in a path could be an id."""
