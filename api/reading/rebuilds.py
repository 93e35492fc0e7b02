"""The last rebuild of a projection, from the request on: the log knows of one that no worker has seen yet."""

from api.reading.store import Store
from shared.operations import orders, rebuilds
from shared.operations.rebuilds import Rebuild
from shared.stores import checkpoints


async def last_rebuild(log: Store, read_model: Store, projection: str) -> Rebuild:
    """The last rebuild of a projection. Raises a store's error."""
    found = await read_model.read(rebuilds.find, projection)
    position = await read_model.read(checkpoints.position_of, projection)
    if found.is_due or not position:  # what begins with the first event is built anew by that
        return found
    asked = await log.read(orders.requested, projection, after=max(position, found.seen))
    return rebuilds.requested_by(asked) if asked else found
