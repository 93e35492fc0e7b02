"""The search: leads to what an id, a number, a stream, an address or a name stands for."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Request, Response

from api.console.log import correlated, search
from api.console.log.correlated import Tree
from api.console.log.search import Hit
from api.console.log.shown import address_of
from api.console.pages import Pages, back, page, service_of

router = Pages()

LONGEST = 300

Text = Annotated[str, Query(max_length=LONGEST)]
Back = Annotated[int, Query(ge=0, le=10**6)]


@router.get("/console/search", role="any", title="Search")
async def find(request: Request, q: Text = "", further: Back = 0) -> Response:
    """What was searched for: the page itself if it can only be one, else all that it may be."""
    text = q.strip()
    hits = await search.hits(request, text) if text and not further else []
    tree = None
    if text and not hits and search.may_correlate(text):
        tree = await search.correlated_with(request, text, further)
    hits += search.pages_that_find(request, text) if text and not further else []
    if not further and (only := _only(hits, tree)):
        return back(only)
    return page(
        request,
        "search.html",
        q=text,
        hits=hits,
        tree=tree,
        looked=correlated.BACK,
        further=further,
        goes_on=bool(tree) and await correlated.reaches_back(service_of(request), further),
        finders=[each.title for each in search.finders(request)],
        address_of=address_of,
    )


def _only(hits: Sequence[Hit], tree: Tree | None) -> str | None:
    """The address of the only page that was found; None if there are several, or none."""
    if tree and tree.size:
        return (
            f"/console/commands/{tree.branches[0].command.command_id}" if tree.size == len(tree.branches) == 1 else None
        )
    return hits[0].address if len(hits) == 1 else None
