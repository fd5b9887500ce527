"""A whole training: all candidates searched, finished and compared, and the one that may be published.

Owns the order of the steps. It has no clock and writes nothing; who runs it says when to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from compute.training.candidates import BASELINE, Candidate
from compute.training.finalists import Finalist, beats, choose, finish
from compute.training.plan import Plan, Split, split_by_time
from compute.training.sample import Sample
from compute.training.selection import Clock, search, usable_folds


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    Attributes
    ----------
    finalists : list of Finalist
        The baseline among them, best first; those without scores last.
    winner : Finalist or None
        None if none could be converted faithfully.
    beats_baseline : bool
        Whether the winner does.
    split : Split
    n_folds : int
        Folds that could be learnt from.
    """

    finalists: list[Finalist]
    winner: Finalist | None
    beats_baseline: bool
    split: Split
    n_folds: int

    @property
    def baseline(self) -> Finalist:
        """What every candidate must beat."""
        return next(item for item in self.finalists if item.name == BASELINE)


def train(
    sample: Sample,
    candidates: Sequence[Candidate],
    plan: Plan,
    fields: Mapping[str, Any],
    clock: Clock,
    *,
    max_bytes: int,
    on_step: Callable[[str], None] = lambda name: None,
    on_finalist: Callable[[Finalist], None] = lambda finalist: None,
) -> Outcome:
    """Search, finish and compare candidates.

    Parameters
    ----------
    sample : Sample
    candidates : sequence of Candidate
        The baseline among them.
    plan : Plan
    fields : mapping
        Metadata of the artefact, as far as `load_artefact` needs it.
    clock : callable
        Gives monotonic seconds.
    max_bytes : int
        Largest artefact.
    on_step : callable
        Called with a candidate's name before each of its trials and before its last fit, see `count_steps`.
        What it raises ends the training.
    on_finalist : callable
        Called with each candidate's finalist once it is known.

    Raises
    ------
    TrainingError
        There are too few rows, or too few of a second class.
    """
    split = split_by_time(len(sample.targets), plan)
    folds = usable_folds(sample, split)
    finalists = []
    for candidate in candidates:
        trial = search(candidate, sample, folds, plan, clock, partial(on_step, candidate.name))
        on_step(candidate.name)
        finalist = finish(
            *(trial, sample, split, fields, clock), max_bytes=max_bytes, converts=candidate.name != BASELINE
        )
        finalists.append(finalist)
        on_finalist(finalist)
    finalists.sort(key=lambda item: -item.trial.rank(plan))
    winner = choose(finalists, plan)
    baseline = next(item for item in finalists if item.name == BASELINE)
    return Outcome(finalists, winner, winner is not None and beats(winner, baseline, plan), split, len(folds))


def count_steps(candidates: Sequence[Candidate], plan: Plan) -> int:
    """Return how many steps a training of these has.

    Examples
    --------
    >>> candidates = [Candidate("baseline", None), Candidate("tree", None, {"max_depth": [1]})]
    >>> count_steps(candidates, Plan("regression"))
    8
    """
    return sum((plan.n_trials if candidate.space else 1) + 1 for candidate in candidates)
