"""Values of a partition that are written anew again and again, each as of one checkpoint.

A checkpoint counts once the partition's own record is behind it. What a crash leaves of one that was never
finished must not count: its events and labels come again, and would be learnt twice. So each value has two
places, which are written by turns, and says how much its writer had seen; the newest one that the partition's
record covers is the one that counts. The other is removed before anything else is written, for what it says
it has seen may mean other events and labels once they have come again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from compute.own_values import content_of, seen_of, with_header
from tables.reserved import PREFIX
from tables.stores import Item, PartitionedStore

KIND = b"NL"
KEPT = PREFIX + b"kept/"
"""Beginning of the keys; the place, 0 or 1, and a name follow."""


class Kept:
    """Values by name.

    Parameters
    ----------
    number : int
        Of the partition.
    store : PartitionedStore
        Read once; written by the checkpoint, with what `take_changes` gives.
    seen : int
        How much the partition's own record has seen.

    Attributes
    ----------
    contents : dict of bytes to bytes
        By name, what counted when the store was read; what was written last is last.
    """

    def __init__(self, number: int, store: PartitionedStore, seen: int) -> None:
        self.contents: dict[bytes, bytes] = {}
        self._place: dict[bytes, int] = {}
        self._superfluous: list[bytes] = []
        newest: dict[bytes, int] = {}
        for key, value in store.items_from(number, KEPT):
            place, name = int(key[len(KEPT) : len(KEPT) + 1] == b"1"), key[len(KEPT) + 1 :]
            try:
                content = content_of(KIND, value)
                counts = seen_of(value) <= seen
            except ValueError:
                counts = False
            if not counts:
                self._superfluous.append(key)
            elif seen_of(value) >= newest.get(name, -1):
                newest[name], self.contents[name], self._place[name] = seen_of(value), content, place
        self.contents = {name: self.contents[name] for name in sorted(newest, key=newest.__getitem__)}

    def remove(self, name: bytes) -> None:
        """Let the next checkpoint remove what nobody wants any more, even if that is never finished."""
        self._place.pop(name, None)
        self._superfluous += [_key(0, name), _key(1, name)]

    def take_changes(self, changed: Mapping[bytes, bytes], gone: Iterable[bytes], seen: int) -> list[Item]:
        """Return values as they are stored; those that are gone are removed with the next ones.

        Parameters
        ----------
        changed : mapping of bytes to bytes
            By name, what is kept from now on.
        gone : iterable of bytes
            Names of what is kept no longer.
        seen : int
            How many events and labels led to it: next offsets of both, added up.
        """
        items: dict[bytes, bytes | None] = dict.fromkeys(self._superfluous)
        self._superfluous = []
        for name, content in changed.items():
            place = 1 - self._place.get(name, 1)
            self._place[name] = place
            items[_key(place, name)] = with_header(KIND, seen, content)
        for name in gone:
            if name in self._place:
                self.remove(name)
        return list(items.items())


def _key(place: int, name: bytes) -> bytes:
    return KEPT + b"%d" % place + name
