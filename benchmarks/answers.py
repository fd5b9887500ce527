"""Whether the contenders gave the same answers: a fast wrong one is worth nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.kafka import Answers

RELATIVE, ABSOLUTE = 1e-4, 1e-5
"""Bounds of a difference: ONNX computes in float32, and a score near 0 is a difference of larger numbers."""


def find_faults(answers: Mapping[str, Answers], n_events: int) -> list[str]:
    """Return what is wrong with the answers, one line each; nothing if they are right and agree.

    Every contender must have exactly one prediction for each event, and the scores of all must be those of
    the first.
    """
    faults = []
    for name, one in answers.items():
        n, n_unique = len(one.ids), len(set(one.ids))
        if not n == n_unique == n_events:
            faults.append(f"{name}: {n} predictions, {n_unique} of them unique, for {n_events} events")
    if faults:
        return faults
    (first, reference), *others = answers.items()
    expected_order = np.argsort(np.array(reference.ids))
    expected_ids = np.array(reference.ids)[expected_order]
    expected = reference.scores[expected_order]
    for name, one in others:
        order = np.argsort(np.array(one.ids))
        if not np.array_equal(np.array(one.ids)[order], expected_ids):
            faults.append(f"{name}: other ids than {first}")
            continue
        scores = one.scores[order]
        far = ~np.isclose(scores, expected, rtol=RELATIVE, atol=ABSOLUTE)
        if far.any():
            worst = int(np.argmax(np.abs(scores - expected)))
            faults.append(
                f"{name}: {int(far.sum())} scores differ from {first}'s, most at {expected_ids[worst]}: "
                f"{scores[worst]!r}, {first} {expected[worst]!r}"
            )
    return faults
