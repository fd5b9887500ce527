"""Cells of a file that has nothing but text, as labels: each by itself, whatever else is in its column.

Owns which text is a number or a boolean. A column's type is that of a chunk of it only, and a label's class
must not hang on the chunk that it is in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from app.sources.source import Label
from compute.labels import MAX_LABEL_LENGTH

_NUMBER = re.compile(r"\s*[+-]?([0-9]+|(?P<fraction>([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?))\s*", re.I)


def read_labels(cells: Sequence[Any]) -> list[Label]:
    """Return numbers and booleans where cells are written like that, else their text; None for other cells.

    Examples
    --------
    >>> read_labels(["1", "1.0", "-2e3", "True", " false", "spam", " 7", "1_000", float("nan")])
    [1, 1.0, -2000.0, True, False, 'spam', 7, '1_000', None]
    """
    # Most columns of labels repeat themselves.
    known = {cell: _read_label(cell) for cell in set(cells) if isinstance(cell, str)}
    return [known.get(cell) for cell in cells]


def _read_label(text: str) -> Label:
    match = _NUMBER.fullmatch(text) if len(text) <= MAX_LABEL_LENGTH else None
    if match is None:
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    if match["fraction"] is None:
        return int(text)
    number = float(text)
    return text if number in (float("inf"), float("-inf")) else number
