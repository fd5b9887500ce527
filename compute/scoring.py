"""A model that is loaded: a matrix of inputs in, scores and predictions out, and which rows failed.

Owns what the outputs of an ONNX graph mean for each kind of model, and that one bad event costs no other
its score. How bytes become a model is in `compute/artefact.py`; what a model is given in `compute/inputs.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.metadata import Label, Metadata

_MAX_MESSAGE = 300


class OutputError(ValueError):
    """A model's answer has not the shape that its metadata promises."""


@dataclass(frozen=True)
class Scores:
    """What a model says about n rows.

    Attributes
    ----------
    scores : ndarray, shape (n,), float64
        Raw numbers: the positive class's probability, the regression's value, or how unusual (higher: more).
        NaN in rows that failed.
    predictions : list, length n
        Decisions: a class, the value, or 1 for an anomaly (the score itself where no threshold is given).
    probabilities : ndarray, shape (n, n_classes), float64, or None
        Of a classification, in the order of the model's classes.
    """

    scores: NDArray[np.float64]
    predictions: list[Any]
    probabilities: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Model:
    """An artefact, loaded.

    Attributes
    ----------
    metadata : Metadata
    version : str
        The first 16 characters of `content_hash`.
    content_hash : str
    classes : tuple of str or int
        By column of the probabilities; empty unless the kind is classification.
    size_bytes : int
        Of the ONNX bytes.
    session : onnxruntime.InferenceSession
    input_name, input_dtype
        Of the session's only input.
    score_output, label_output : str
        Outputs that are read; the second may be empty.
    """

    metadata: Metadata
    version: str
    content_hash: str
    classes: tuple[Label, ...]
    size_bytes: int
    session: Any
    input_name: str
    input_dtype: Any
    score_output: str
    label_output: str = ""

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.metadata.name

    @property
    def kind(self) -> str:
        """What it predicts: anomaly, classification or regression."""
        return self.metadata.kind

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the input's columns."""
        return self.metadata.features

    @property
    def normaliser(self) -> str:
        """Whether the input is normalised (window) or raw (none)."""
        return self.metadata.normaliser

    @property
    def missing(self) -> str:
        """What a missing feature does: reject, mean or nan."""
        return self.metadata.missing

    @property
    def threshold(self) -> float | None:
        """Score at which an event is an alarm, if the artefact says so."""
        return self.metadata.threshold

    def predict(self, matrix: NDArray[np.float64], options: Any = None) -> tuple[Scores, dict[int, str]]:
        """Score every row that can be scored.

        Parameters
        ----------
        matrix : ndarray, shape (n, n_features), float64
            Columns in the order of `features`.
        options : onnxruntime.RunOptions, optional
            Of every run. Once another thread sets its `terminate`, this raises what ONNX Runtime raises.

        Returns
        -------
        scores : Scores
            NaN and None where a row failed.
        errors : dict of int to str
            By row, why it has no score.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.features):
            raise ValueError(f"matrix: shape (n, {len(self.features)}) needed, received {matrix.shape}")
        errors: dict[int, str] = {}
        result = self._score(matrix, 0, errors, options)
        failed = ~np.isfinite(result.scores)
        if result.probabilities is not None:
            failed |= ~np.isfinite(result.probabilities).all(axis=1)
        for row in np.flatnonzero(failed).tolist():
            errors.setdefault(row, f"score: must be finite, received {result.scores[row]} from {self.name!r}")
            result.predictions[row] = None
        result.scores[failed] = np.nan
        return result, errors

    def run(self, matrix: NDArray[np.float64], options: Any = None) -> Scores:
        """Score all rows in one call; raises what ONNX Runtime raises, or OutputError."""
        with np.errstate(over="ignore"):  # a value beyond float32 becomes infinity, which the model may judge
            inputs = matrix.astype(self.input_dtype, order="C")
        names = [self.score_output, self.label_output] if self.label_output else [self.score_output]
        chosen = () if options is None else (options,)
        answers = self.session.run(names, {self.input_name: inputs}, *chosen)
        if self.kind == "classification":
            return self._classify(answers, len(matrix))
        scores = _column(answers[0], self.score_output, len(matrix))
        if self.kind == "regression":
            return Scores(scores, scores.tolist())
        scores = scores * self.metadata.output.sign
        if self.threshold is None:
            return Scores(scores, scores.tolist())
        return Scores(scores, (scores >= self.threshold).astype(np.int64).tolist())

    def _score(
        self, matrix: NDArray[np.float64], first_row: int, errors: dict[int, str], options: Any
    ) -> Scores:
        n_rows = len(matrix)
        if n_rows == 0:
            return self._blank(0)
        try:
            return self.run(matrix, options)
        except Exception as error:  # whatever an operator of the graph may raise
            if options is not None and options.terminate:
                raise  # no row is to blame
            if n_rows == 1:
                errors[first_row] = f"{self.name!r}: {_one_line(error)}"
                return self._blank(1)
        # Halving finds k bad rows among n in about k * log2(n) calls.
        middle = n_rows // 2
        parts = (
            self._score(matrix[:middle], first_row, errors, options),
            self._score(matrix[middle:], first_row + middle, errors, options),
        )
        probabilities = [part.probabilities for part in parts if part.probabilities is not None]
        return Scores(
            np.concatenate([part.scores for part in parts]),
            parts[0].predictions + parts[1].predictions,
            np.concatenate(probabilities) if probabilities else None,
        )

    def _blank(self, n_rows: int) -> Scores:
        unknown = np.full((n_rows, len(self.classes)), np.nan) if self.classes else None
        return Scores(np.full(n_rows, np.nan), [None] * n_rows, unknown)

    def _classify(self, answers: list[Any], n_rows: int) -> Scores:
        probabilities = _matrix(answers[0], self.score_output, n_rows)
        if probabilities.shape[1] == 1 and len(self.classes) == 2:  # a network with one sigmoid at its end
            probabilities = np.hstack([1.0 - probabilities, probabilities])
        if probabilities.shape[1] != len(self.classes):
            raise OutputError(
                f"output {self.score_output!r}: {len(self.classes)} classes {list(self.classes)} need as "
                f"many columns, found {probabilities.shape[1]}"
            )
        positive = self.metadata.output.positive
        column = len(self.classes) - 1 if positive is None else self.classes.index(positive)
        if self.label_output:
            labels = np.asarray(answers[1])
            if labels.size != n_rows:
                raise OutputError(
                    f"output {self.label_output!r}: shape ({n_rows},) needed, found {labels.shape}"
                )
            predictions = labels.reshape(n_rows).tolist()
        else:
            predictions = [self.classes[best] for best in probabilities.argmax(axis=1).tolist()]
        return Scores(probabilities[:, column].copy(), predictions, probabilities)


def _column(answer: Any, name: str, n_rows: int) -> NDArray[np.float64]:
    values = np.asarray(answer)
    if values.shape not in ((n_rows,), (n_rows, 1)):
        raise OutputError(f"output {name!r}: shape ({n_rows},) or ({n_rows}, 1) needed, found {values.shape}")
    return values.reshape(n_rows).astype(np.float64)


def _matrix(answer: Any, name: str, n_rows: int) -> NDArray[np.float64]:
    values = np.asarray(answer)
    if values.shape == (n_rows,):
        values = values.reshape(n_rows, 1)
    if values.ndim != 2 or len(values) != n_rows:
        raise OutputError(f"output {name!r}: shape ({n_rows}, n_classes) needed, found {values.shape}")
    return values.astype(np.float64)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:_MAX_MESSAGE]
