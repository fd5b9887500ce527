"""What a label says: the name of a class, or a number.

Owns the one form in which classes are compared, so that `true`, `1`, `1.0` and `"1"` in JSON are the class
that a model calls 1. How labels reach their events is left to others.
"""

from __future__ import annotations

import hashlib
import math
import reprlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_LABEL_LENGTH = 200
"""Characters of a label that is taken; of a number, those of its digits."""

MAX_NAME = 200
"""Characters of a class. Longer names are cut and told apart by a hash: what is kept of them is bounded."""

LARGEST_NUMBER = 1e60
"""A label beyond stands for a missing one, as the largest float64 does: nothing is measured in it."""

_HASH_LENGTH = 16
_MAX_BITS = 1023
_TOO_LONG = 10**MAX_LABEL_LENGTH


def label_fault(label: str | float) -> str:
    """Return what a label is that cannot be taken, whichever way it came; empty if it can.

    Parameters
    ----------
    label : str, bool, int or float

    Examples
    --------
    >>> label_fault(""), label_fault("x" * 5000), label_fault(10**300)
    ('a string of 0', 'a string of 5000', 'a longer number')
    >>> label_fault("spam"), label_fault(-2.5), label_fault(True)
    ('', '', '')
    """
    if type(label) is str:
        return "" if 0 < len(label) <= MAX_LABEL_LENGTH else f"a string of {len(label)}"
    return "a longer number" if type(label) is int and abs(label) >= _TOO_LONG else ""


def canonical_class(label: Any) -> str:
    r"""Return the name of a class.

    Parameters
    ----------
    label : str, bool, int, float, or a scalar of numpy
        Strings are their own names: "1.0" is not the class 1. Numbers are named by their value.

    Returns
    -------
    str
        At most `MAX_NAME` characters that can be encoded as UTF-8; the name of a name is itself.

    Raises
    ------
    ValueError
        If it is anything else, or not finite.

    Examples
    --------
    >>> [canonical_class(label) for label in (True, 1, 1.0, "1", -0.0, 0.5, "spam", 1e20)]
    ['1', '1', '1', '1', '0', '0.5', 'spam', '100000000000000000000']
    >>> len(canonical_class("x" * 5000)), canonical_class("\ud800")
    (200, '\\ud800')
    >>> canonical_class(None)
    Traceback (most recent call last):
    ValueError: label: must be a string, boolean or finite number, received None
    """
    if type(label) is str and len(label) <= MAX_NAME and label.isascii():  # nearly always
        return label
    if isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, str):
        return _bounded(label.encode("utf-8", "backslashreplace").decode())
    # Integers beyond float64 are infinite as far as labels go; Python refuses to write some of them.
    if isinstance(label, int) and label.bit_length() <= _MAX_BITS:
        return _bounded(str(int(label)))
    if isinstance(label, float) and math.isfinite(label):
        return _bounded(str(int(label))) if label.is_integer() else repr(label)
    raise ValueError(f"label: must be a string, boolean or finite number, received {_shown(label)}")


def canonical_classes(labels: Sequence[Any]) -> list[str]:
    """Return the names of classes, as `canonical_class` does; each is made once.

    Parameters
    ----------
    labels : sequence of str, bool, int or float

    Examples
    --------
    >>> canonical_classes([True, "spam", 1.0, 0])
    ['1', 'spam', '1', '0']
    """
    # Labels that are equal have the same name, whatever their types.
    names = {label: canonical_class(label) for label in set(labels)}
    return [names[label] for label in labels]


def find_class(wanted: str, names: Collection[str]) -> str | None:
    """Return the class that a text names, None where there is none.

    Parameters
    ----------
    wanted : str
        A name; or a boolean or a number as people write it, which is the class that such labels are.
    names : collection of str
        Classes in canonical form.

    Examples
    --------
    >>> find_class("ok", ["faulty", "ok"]), find_class("true", ["0", "1"]), find_class("1.0", ["0", "1"])
    ('ok', '1', '1')
    >>> find_class("true", ["true", "1"]), find_class("off", ["0", "1"])
    ('true', None)
    """
    if wanted in names:
        return wanted
    read = {"true": "1", "false": "0"}.get(wanted.lower())
    if read is None:
        try:
            read = canonical_class(float(wanted))
        except ValueError:
            return None
    return read if read in names else None


def numeric_label(label: Any) -> float:
    """Return the number that a label is.

    Raises
    ------
    ValueError
        If it is not a number within `LARGEST_NUMBER`: text, however it reads, and booleans are none.

    Examples
    --------
    >>> numeric_label(3), numeric_label(-2.5)
    (3.0, -2.5)
    >>> numeric_label("3")
    Traceback (most recent call last):
    ValueError: label: must be a number from -1e+60 to 1e+60, received '3'
    """
    if isinstance(label, np.generic):
        label = label.item()
    is_number = isinstance(label, float) or (isinstance(label, int) and not isinstance(label, bool))
    if is_number and not (isinstance(label, int) and label.bit_length() > _MAX_BITS):
        number = float(label)
        if abs(number) <= LARGEST_NUMBER:  # not NaN either
            return number
    bounds = f"{-LARGEST_NUMBER:g} to {LARGEST_NUMBER:g}"
    raise ValueError(f"label: must be a number from {bounds}, received {_shown(label)}")


def finite_numbers(name: str, column: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    """Return a column of labels or predictions as numbers.

    Raises
    ------
    ValueError
        If one of them is not a finite number.

    Examples
    --------
    >>> finite_numbers("labels", [1, 2.5]).tolist()
    [1.0, 2.5]
    >>> finite_numbers("predictions", [1.0, float("nan")])
    Traceback (most recent call last):
    ValueError: predictions: must be finite, received nan
    """
    try:
        numbers = np.asarray(column, np.float64)
    except TypeError:
        raise ValueError(f"{name}: must be numbers, received {reprlib.repr(column)}") from None
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name}: must be finite, received {numbers[~np.isfinite(numbers)][0]}")
    return numbers


def _bounded(name: str) -> str:
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{name[: MAX_NAME - _HASH_LENGTH - 3]}...{digest}"


def _shown(label: Any) -> str:
    """Return a label as it is quoted: strangers chose it, and it may be of any size."""
    if isinstance(label, int) and label.bit_length() > _MAX_BITS:
        return f"an integer of {label.bit_length()} bits"
    return reprlib.repr(label)
