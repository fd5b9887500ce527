"""How well one version of a model predicts, in one partition: since its start and over a window.

Owns which outcomes count for what, and how evaluations of several partitions become one. What is counted is
in `compute/class_tally.py` and `compute/number_tally.py`, the stored form in `compute/evaluation_codec.py`.

The window is a ring of panes as an entity's is (`compute/panes.py`): the pane of the newest labelled event
and the `n_panes - 1` before it. What is older than the ring counts since the start only. The window of a
merged evaluation ends at the newest pane of all its parts, so it covers the same time in each of them.

What is counted is a function of the outcomes alone: in any order, in any split into batches and partitions,
merged in any order, the same metrics come out, up to the rounding of sums. (Except that beyond `MAX_CLASSES`
the order in which classes come up decides which of them are told apart.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from compute.class_names import ClassNames
from compute.class_outcomes import class_rows, probabilities_by_class
from compute.class_tally import ClassTally
from compute.evaluation_codec import State, decode_state, encode_state
from compute.evaluation_head import Head, Task, check_head
from compute.labels import canonical_class, find_class, finite_numbers
from compute.moments import Floats
from compute.number_tally import NumberRows, NumberTally
from compute.panes import EMPTY, pane_index, window_bounds
from compute.score_counts import ScoreCounts

Column = Sequence[Any] | NDArray[Any]

MAX_SCORES = 4_096
"""Different scores that are told apart since the start; the panes share twice as many."""


class Evaluation:
    """Metrics of one version on labelled events.

    Precision, recall and F1 are those of the positive class where there are two classes, and the mean over
    the classes (macro) where there are more. The area under the ROC curve is that of the score for the
    positive class against all others where the model has one or two classes; otherwise the mean of each
    class's against the others, by the probabilities. A class without a column of probabilities has a
    probability of 0: log loss and area are scikit-learn's for a matrix with a column of zeros in its place.

    Parameters
    ----------
    task : {"classification", "regression"}
    n_panes : int
        Panes in the window, 1,000 at most.
    pane_seconds : float
    classes : sequence of str, int or bool
        The model's, in the order of its columns of probabilities; empty where only outcomes tell them, as
        with a model that learns online. Others that labels or predictions name come behind, in the order in
        which they come up; beyond `MAX_CLASSES` all are one class, `OTHER`, and a mean area is not defined.
    positive : str, int or bool, optional
        The class that the scores are of. None: the model's last, or of two classes that only outcomes tell
        the later one in the order of strings, as it is while a positive one has not come up among them.
    max_scores : int
        Different scores told apart since the start, at least 256: see `compute/score_counts.py`.

    Examples
    --------
    >>> evaluation = Evaluation("classification", n_panes=12, pane_seconds=300.0, classes=("ham", "spam"))
    >>> evaluation.add(
    ...     timestamps=np.array([0.0, 10.0, 4000.0]), labels=["spam", "ham", "ham"],
    ...     predictions=["spam", "spam", "ham"], scores=np.array([0.9, 0.6, 0.2]))
    >>> described = evaluation.describe()
    >>> {name: described["since_start"][name] for name in ("n_labels", "precision", "recall", "roc_auc")}
    {'n_labels': 3, 'precision': 0.5, 'recall': 1.0, 'roc_auc': 1.0}
    >>> {name: described["window"][name] for name in ("start", "end", "n_labels", "accuracy", "roc_auc")}
    {'start': 600.0, 'end': 4200.0, 'n_labels': 1, 'accuracy': 1.0, 'roc_auc': None}
    """

    def __init__(
        self,
        task: Task,
        n_panes: int,
        pane_seconds: float,
        classes: Sequence[Any] = (),
        positive: Any = None,
        max_scores: int = MAX_SCORES,
    ):
        self.head = Head(
            task=task,
            n_panes=n_panes,
            pane_seconds=float(pane_seconds),
            classes=tuple(dict.fromkeys(canonical_class(name) for name in classes)),
            positive=None if positive is None else canonical_class(positive),
            max_scores=max_scores,
        )
        self._start(self.head)

    def _start(self, head: Head) -> None:
        check_head(head)
        self.head = head
        self.names = ClassNames(head.classes)
        self.newest = EMPTY
        self.since_start = self._new_tally(head.max_scores)
        self.panes: dict[int, Any] = {}

    def name_positive(self, positive: str | None) -> None:
        """Let metrics be about another class from now on, unless the model's classes are known."""
        if not self.head.classes:
            self.head = msgspec.structs.replace(self.head, positive=positive)
            check_head(self.head)

    @property
    def n_labels(self) -> int:
        """Labelled events since the start."""
        n_labels: int = self.since_start.n_labels
        return n_labels

    def add(
        self,
        timestamps: Floats,
        labels: Column,
        predictions: Column,
        scores: Floats,
        probabilities: Floats | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        """Count the outcomes of events.

        Parameters
        ----------
        timestamps : ndarray, shape (n,), float64, seconds
            Event times since the epoch.
        labels, predictions : sequences of length n
            Classes in canonical form (`compute/labels.py`), or finite numbers.
        scores : ndarray, shape (n,), float64
            Higher: more probably the positive class. An event whose score is NaN counts for no ROC curve.
            Not read for a regression.
        probabilities : ndarray, shape (n, k), float64, optional
            By class. An event without one counts for no log loss, nor does one whose label's is NaN.
        columns : sequence of k str, optional
            Classes of the probabilities, where they are not the model's: one that learns online finds them.

        Raises
        ------
        ValueError
            If the columns differ in length, a class is no string, or a number or time is not finite. Nothing
            was counted then.
        """
        n_rows = len(timestamps)
        given: dict[str, Any] = {"labels": labels, "predictions": predictions, "scores": scores}
        if probabilities is not None:
            given["probabilities"] = probabilities
        for name, column in given.items():
            if len(column) != n_rows:
                raise ValueError(f"{name}: must be {n_rows}, one for each timestamp, received {len(column)}")
        if not n_rows:
            return
        panes = pane_index(np.asarray(timestamps, np.float64), self.head.pane_seconds)
        rows: Any
        if self.head.task == "regression":
            rows = NumberRows(finite_numbers("labels", labels), finite_numbers("predictions", predictions))
        else:
            by_class = None
            if probabilities is not None:
                columns = self.head.classes if columns is None else columns
                by_class = probabilities_by_class(self.names, np.asarray(probabilities, np.float64), columns)
            ranking = np.asarray(scores, np.float64) if self.head.by_score else None
            rows = class_rows(self.names, labels, predictions, by_class, ranking, self._positive())
            self._forget_unmergeable()
        self.since_start.add(rows)
        self._move_on(int(panes.max()))
        for pane in np.unique(panes[panes > self.newest - self.head.n_panes]).tolist():
            chosen = panes == pane
            self._pane(pane).add(rows if chosen.all() else rows.take(chosen))

    def merge(self, other: Evaluation) -> None:
        """Count all that another evaluation of the same version counted, which stays as it is.

        Raises
        ------
        ValueError
            If it is of another task, window or model.
        """
        for name in self.head.__struct_fields__:
            mine, theirs = getattr(self.head, name), getattr(other.head, name)
            if mine != theirs and (name != "positive" or self.head.classes):  # else it changes no count
                raise ValueError(f"{name}: must be equal to be merged, received {mine!r} and {theirs!r}")
        codes = self.names.codes(other.names.names)
        keeps_scores = self._forget_unmergeable()
        self.since_start.merge(other.since_start.recode(codes, keeps_scores))
        self._move_on(other.newest)
        for pane, tally in list(other.panes.items()):
            if pane > self.newest - self.head.n_panes:
                self._pane(pane).merge(tally.recode(codes, keeps_scores))

    def describe(self) -> dict[str, Any]:
        """Return the metrics as plain values; None is one that is not defined.

        Returns
        -------
        dict
            `task`; `window`, which has `start` and `end` in epoch seconds besides; and `since_start`. For a
            classification each has `n_labels`, `accuracy`, `balanced_accuracy`, `precision`, `recall`, `f1`,
            `log_loss`, `roc_auc`, `roc_auc_resolution` (by how much the area may be off because scores were
            rounded to be kept; 0: it is exact), `classes`, `positive` (the class that precision, recall and
            F1 are of; None: their mean), `per_class`, and `confusion_matrix` (a row for each label, a column
            for each prediction). For a regression each has `n_labels`, `mae`, `rmse` and `r2`.
        """
        window = self._unite(sorted(self.panes))
        start, end = None, None
        if self.newest != EMPTY:
            start, end = window_bounds(self.newest, self.head.n_panes, self.head.pane_seconds)
        return {
            "task": self.head.task,
            "window": {"start": start, "end": end, **self._metrics(window)},
            "since_start": self._metrics(self.since_start),
        }

    def encode(self) -> bytes:
        """Return the stored form."""
        return encode_state(State(self.head, self.names.names, self.newest, self.since_start, self.panes))

    @classmethod
    def decode(cls, stored: bytes) -> Evaluation:
        """Return what `encode` stored.

        Raises
        ------
        ValueError
            If the bytes are not a stored evaluation, whatever they are.

        Examples
        --------
        >>> evaluation = Evaluation("regression", n_panes=12, pane_seconds=300.0)
        >>> Evaluation.decode(evaluation.encode()).describe() == evaluation.describe()
        True
        >>> Evaluation.decode(b"hello")
        Traceback (most recent call last):
        ValueError: stored evaluation: must have 16 bytes or more, received 5
        """
        state = decode_state(stored)
        found = cls.__new__(cls)
        found._start(state.head)
        found.names = ClassNames(state.names)
        found.newest, found.since_start, found.panes = state.newest, state.since_start, state.panes
        return found

    def _new_tally(self, max_scores: int) -> Any:
        return NumberTally() if self.head.task == "regression" else ClassTally(ScoreCounts(max_scores))

    def _pane(self, pane: int) -> Any:
        if pane not in self.panes:
            self.panes[pane] = self._new_tally(self.head.pane_scores)
        return self.panes[pane]

    def _unite(self, panes: list[int]) -> Any:
        """Return one tally of these panes, by halves: 1,000 of them one by one take eight times as long."""
        if len(panes) > 2:
            half = len(panes) // 2
            united = self._unite(panes[:half])
            united.merge(self._unite(panes[half:]))
            return united
        united = self._new_tally(self.head.n_panes * self.head.pane_scores)
        for pane in panes:
            united.merge(self.panes[pane])
        return united

    def _move_on(self, newest: int) -> None:
        """Let the window end with this pane if it is later, and forget what is before it."""
        self.newest = max(self.newest, newest)
        for pane in [pane for pane in self.panes if pane <= self.newest - self.head.n_panes]:
            del self.panes[pane]

    def _forget_unmergeable(self) -> bool:
        """Drop scores of classes that are no longer told apart; tell whether there are scores to keep."""
        if self.head.by_score or not self.names.overflowed:
            return True
        for tally in (self.since_start, *self.panes.values()):
            tally.scores = ScoreCounts(tally.scores.bound)
        return False

    def _metrics(self, tally: Any) -> dict[str, Any]:
        described: dict[str, Any]
        if self.head.task == "regression":
            described = tally.describe()
        else:
            names, positive = self.names.names, self._positive()
            binary = positive if len(names) <= 2 else None
            ranked = positive if self.head.by_score else binary
            described = tally.describe(names, binary, ranked, len(self.head.classes))
        return described

    def _positive(self) -> int | None:
        """Return the code of the positive class, if there is one."""
        names, positive = self.names.names, self.head.positive
        if positive is None and self.head.by_score:
            positive = self.head.classes[-1]
        if positive is not None and (found := find_class(positive, names)) is not None:
            return names.index(found)
        return names.index(max(names)) if len(names) == 2 else None


def merge_all(evaluations: Iterable[Evaluation]) -> Evaluation:
    """Return one evaluation of all that evaluations of one version counted, which stay as they are.

    Its window ends at the newest pane of them all.

    Raises
    ------
    ValueError
        If there are none, or they are of different tasks, windows or models.

    Examples
    --------
    >>> parts = [Evaluation("regression", n_panes=2, pane_seconds=60.0) for _ in range(2)]
    >>> parts[0].add(np.array([10.0]), [1.0], [2.0], np.zeros(1))
    >>> parts[1].add(np.array([130.0]), [1.0], [4.0], np.zeros(1))
    >>> merged = merge_all(parts).describe()
    >>> merged["since_start"]["mae"], merged["window"]["mae"], merged["window"]["start"]
    (2.0, 3.0, 60.0)
    """
    merged: Evaluation | None = None
    for evaluation in evaluations:
        if merged is None:
            merged = Evaluation.__new__(Evaluation)
            merged._start(evaluation.head)
        merged.merge(evaluation)
    if merged is None:
        raise ValueError("evaluations: at least one needed to merge, received none")
    return merged
