"""Waiting for what workers have come to: outcomes of commands, and positions that projections have reached."""

from collections.abc import Collection, Mapping
from functools import partial

from api.reading.feed import LOOK_EVERY
from api.reading.poll import Poll
from api.reading.store import Store
from shared.stores import checkpoints, outcomes
from shared.stores.outcomes import Outcome


class Results:
    """One poll of a store for all who wait for the same kind of thing."""

    def __init__(self, log: Store, read_models: Mapping[str, Store]) -> None:
        self._log = log
        self._read_models = read_models
        self.outcomes = Poll[int, Outcome](self._outcomes)
        """By the seq of their command."""
        self.followed = Poll[int, Outcome](self._outcomes, every=LOOK_EVERY)
        """The same, for streams: they stay open, and are in no such hurry."""
        self.visible = {name: Poll[int, Outcome](partial(self._visible, name)) for name in read_models}
        """By projection: outcomes that it shows."""
        self.reached = {name: Poll[int, bool](partial(self._reached, name)) for name in read_models}
        """By projection: whether it has reached a position."""

    async def has_reached(self, projection: str, position: int) -> bool:
        """Whether it has by now."""
        return position in await self._reached(projection, [position])

    async def _outcomes(self, seqs: Collection[int]) -> dict[int, Outcome]:
        return await self._log.read(outcomes.find, seqs)

    async def _visible(self, projection: str, seqs: Collection[int]) -> dict[int, Outcome]:
        """Outcomes that the projection shows; a rejection shows itself."""
        ended = await self._outcomes(seqs)
        positions = {outcome.position or 0 for outcome in ended.values()}
        shown = await self._reached(projection, positions) if ended else {}
        return {seq: outcome for seq, outcome in ended.items() if (outcome.position or 0) in shown}

    async def _reached(self, projection: str, positions: Collection[int]) -> dict[int, bool]:
        reached = await self._read_models[projection].read(checkpoints.position_of, projection)
        return {position: True for position in positions if reached >= position}
