"""Holders of keys: the principals that the table of keys lets in."""

import hmac
import math
import time
from collections import defaultdict
from collections.abc import Iterable

from shared.access.keys import digest_of, id_in
from shared.access.principals import Principal
from shared.clock import moment
from shared.operations.key_table import KnownKey

Holders = dict[str, list[Principal]]
"""The holders of each key by its id: one, or two after a rotation, of which the second has the old secret."""


def holders_of(keys: Iterable[KnownKey]) -> Holders:
    """The holders of all keys that are not revoked. Each one's `until` is the time at which the secret expires."""
    found: Holders = defaultdict(list)
    for key in keys:
        if key.revoked_at:
            continue
        until = moment(key.expires_at).timestamp() if key.expires_at else math.inf
        found[key.id].append(Principal(f"key:{key.id}", key.roles, until, key.digest))
        if key.old_digest and key.old_until:
            until = min(until, moment(key.old_until).timestamp())
            found[key.id].append(Principal(f"key:{key.id}", key.roles, until, key.old_digest))
    return dict(found)


def holder_of(text: str, holders: Holders) -> Principal | None:
    """The holder of the key with this text, unless it is not known or has expired.

    How long it takes may tell whether an id is known, which is no secret; digests are compared in constant time.
    """
    id = id_in(text)
    if id not in holders:
        return None
    digest = digest_of(text)
    for each in holders[id]:
        if hmac.compare_digest(each.credential, digest) and each.until > time.time():
            return each
    return None
