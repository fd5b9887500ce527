"""Small samples for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compute.training.sample import NewestRows, Sample

NAMES = ("heat", "flow", "load", "speed")


def sample_of(
    task: str, n_rows: int = 600, seed: int = 0, kind: str = "normal", classes: tuple[str, ...] = ("0", "1")
) -> Sample:
    """Return rows whose target depends on the features by a line, a wave and a product.

    Classes are parts of it, equally large. The features are normal (`kind` "normal"), or far from zero and of
    very different scales ("far").
    """
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n_rows, len(NAMES)))
    score = inputs[:, 0] + np.sin(2 * inputs[:, 1]) + inputs[:, 2] * inputs[:, 3] / 2
    score += rng.normal(size=n_rows) * 0.3
    if kind == "far":
        inputs = inputs * [1e3, 1.0, 1e-3, 25.0] + [1e7, 0.0, 5.0, 1e6]
    if task == "regression":
        return sample_from(inputs, score.tolist())
    bounds = np.quantile(score, np.linspace(0, 1, len(classes) + 1)[1:-1])
    return sample_from(inputs, [classes[number] for number in np.digitize(score, bounds)])


def sample_from(inputs: np.ndarray, targets: Sequence[str] | Sequence[float]) -> Sample:
    """Return rows a second apart with these targets."""
    n_rows = len(inputs)
    newest = NewestRows("classification" if isinstance(targets[0], str) else "regression", n_rows)
    names = NAMES[: inputs.shape[1]]
    newest.add(names, inputs, inputs, targets, np.arange(n_rows, dtype=float), 0, np.arange(n_rows))
    return newest.take(normaliser="none", missing="reject")
