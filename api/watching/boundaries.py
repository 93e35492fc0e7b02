"""Where minutes begin and end in a table that grows with time: by look-ups of its primary key, many at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

Times = Callable[[list[int]], Awaitable[Mapping[int, str]]]
"""Gives the stored times of some seqs; those that have none are left out."""

WAYS = 16
"""Seqs that are looked up at once to narrow a boundary down."""


async def last_by(moments: Iterable[str], times: Times, last: int) -> dict[str, int]:
    """For each time the highest seq of up to `last` with an earlier one, 0 if there is none."""
    return await _narrowed(dict.fromkeys(moments, (0, last)), times)


async def last_by_near(known: Mapping[str, int], times: Times) -> dict[str, int]:
    """The same, where a seq is known for each time that is no less, and mostly little more, than the one looked for."""
    steps = {each: [max(0, seq - (1 << n) + 1) for n in range(seq.bit_length() + 1)] for each, seq in known.items()}
    found = await times(sorted({seq for its in steps.values() for seq in its}))
    between = {}
    for each, its in steps.items():
        late = its[0] + 1
        for seq in its:
            if seq == 0 or found.get(seq, "~") < each:
                break
            late = seq
        between[each] = (seq, late - 1)
    return await _narrowed(between, times)


async def _narrowed(between: dict[str, tuple[int, int]], times: Times) -> dict[str, int]:
    """Narrows down each pair of a seq that is early enough and one of which all later ones are not."""
    while any(low < high for low, high in between.values()):
        asked = {
            each: sorted({low + -(-(high - low) * way // WAYS) for way in range(1, WAYS + 1)})
            for each, (low, high) in between.items()
            if low < high
        }
        found = await times(sorted({seq for its in asked.values() for seq in its}))
        for each, its in asked.items():
            low, high = between[each]
            for seq in its:
                if found.get(seq, "~") >= each:  # what has no time is late
                    high = seq - 1
                    break
                low = seq
            between[each] = low, high
        await asyncio.sleep(0)
    return {each: low for each, (low, _) in between.items()}
