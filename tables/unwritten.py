"""What was taken for a checkpoint, over a store that does not have it yet.

Between the two the changelog has to acknowledge it, and what is asked meanwhile must find the newer value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tables.stores import PartitionedStore


class Unwritten:
    """Values of one partition that are not in the store yet, and those that are.

    Parameters
    ----------
    number : int
        Of the partition.
    store : PartitionedStore
    """

    def __init__(self, number: int, store: PartitionedStore) -> None:
        self._number = number
        self._store = store
        self._taken: dict[bytes, bytes | None] = {}

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of keys, None where there is none."""
        taken = self._taken
        if not taken:
            return self._store.get_many(self._number, keys)
        asked = [key for key in keys if key not in taken]
        stored = iter(self._store.get_many(self._number, asked) if asked else ())
        return [taken[key] if key in taken else next(stored) for key in keys]

    def take(self, items: Mapping[bytes, bytes | None]) -> None:
        """Take note of what will be written."""
        self._taken.update(items)

    def wrote(self) -> None:
        """Take note that the store has all that was taken."""
        self._taken.clear()
