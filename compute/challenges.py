"""Which number a challenger has among all that were ever held against one champion.

Owns that order, on which it depends how much evidence a challenger needs (`compute/evidence.py`). It comes of
decisions alone, which compaction leaves: whoever reads the topic, whenever, counts alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Turn(NamedTuple):
    """What became of a version, once.

    Attributes
    ----------
    rank : (float, str)
        Place in the order of all turns, see `compute.ledger.Rank`.
    name, version : str
    change : {"challenge", "promote", "rollback", "retire", "replace"}
        The action of a decision, or that another version was promoted over this one.
    """

    rank: tuple[float, str]
    name: str
    version: str
    change: str


def number_challengers(turns: Iterable[Turn], champion: str, name: str = "") -> dict[str, int]:
    """Give the challengers of a champion numbers from 1 on, in the order in which they came.

    First are those that challenged when it was promoted for the first time, the newest first since these
    are the ones that have a place; then whoever challenged later. A number stays: that a challenger is
    retired, or that the champion was replaced and came back, changes none. Of a champion that was never
    promoted by a decision all challengers count, from the first on.

    Parameters
    ----------
    turns : iterable of Turn
    champion : str
        Version.
    name : str
        Of the model whose versions alone may challenge; empty: of any.

    Returns
    -------
    dict of str to int
        By version.

    Examples
    --------
    >>> changes = ["b challenge", "c challenge", "a promote", "d challenge", "b retire"]
    >>> turns = [Turn((i, ""), "pump", *change.split()) for i, change in enumerate(changes)]
    >>> number_challengers(turns, "a")
    {'c': 1, 'b': 2, 'd': 3}
    """
    ordered = sorted(turns, key=lambda turn: turn.rank)
    served = (turn for turn in ordered if turn.version == champion and turn.change in _SERVED)
    first = next(served, None)
    # What was replaced before it was ever promoted had served already: nobody knows since when.
    n_before = ordered.index(first) if first is not None and first.change != "replace" else 0
    standing: dict[str, None] = {}
    for turn in ordered[:n_before]:
        standing.pop(turn.version, None)
        if _may_challenge(turn, champion, name):
            standing[turn.version] = None
    came = [turn.version for turn in ordered[n_before:] if _may_challenge(turn, champion, name)]
    return {version: i for i, version in enumerate(dict.fromkeys([*reversed(standing), *came]), 1)}


_SERVED = ("promote", "rollback", "replace")


def _may_challenge(turn: Turn, champion: str, name: str) -> bool:
    return turn.change == "challenge" and turn.version != champion and name in ("", turn.name)
