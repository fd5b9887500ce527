"""What ends a training: in a module of its own, which loads no library, for those who only tell people."""

from __future__ import annotations


class TrainingError(ValueError):
    """Nothing can be trained; the message is one line with the numbers that say why."""
