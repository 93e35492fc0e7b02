"""`cqrs verify`: everything that can be told from one store is held against the others."""

from collections.abc import Collection

from cli.output import progress, say
from cli.stores import schemas
from cli.stores.verification import checks, snapshots
from shared.domain.aggregates import AGGREGATES
from shared.schemas.folding import Wrong
from shared.settings import Settings


def verify(settings: Settings, *, quiet: bool = False, but: Collection[str] = ()) -> dict[str, int]:
    """How much each check went through; `but` these read models. Raises Wrong at the first thing that is wrong."""
    done: dict[str, int] = {}
    with snapshots(settings) as stores:
        every = {"schemas": schemas.check(settings, stores)} | checks(stores, AGGREGATES, but=but)
        for what, check in every.items():
            done[what] = sum(progress(check, what))
            if not quiet:
                say(f"ok  {what}: {done[what]:,}")
    return done


def verdict(settings: Settings) -> dict[str, object]:
    """The same, for programs."""
    try:
        return {"well": True, "wrong": None, "checked": verify(settings, quiet=True)}
    except Wrong as wrong:
        return {"well": False, "wrong": str(wrong), "checked": None}
