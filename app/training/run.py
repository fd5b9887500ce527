"""One training from its data to what can be published.

Owns the order: read, sample, train, pack. What is said to people is in `app/commands/train.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from app.settings import Settings
from app.sources import SourceOptions
from app.training.artefact import describe_data, needed_fields, pack, write_files
from app.training.files import open_training_source, read_source
from app.training.request import Request
from app.training.rows import Rows
from app.training.topics import read_topics
from compute.training.candidates import choose_candidates
from compute.training.fault import TrainingError
from compute.training.plan import Plan
from compute.training.plot import draw
from compute.training.report import describe, headers, tell_parameters, tell_rows, tell_short
from compute.training.sample import Sample
from compute.training.training import Outcome, count_steps, train


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Attributes
    ----------
    name, version : str
        The version is empty where no candidate can be published.
    onnx_bytes, metadata_json, plot : bytes
    report : dict
        The table, with the data it rests on.
    headers, table
        The table as it is printed.
    notes : str
        What is said below it: the parameters of each candidate, and folds that could not be used.
    beats_baseline : bool
    evidence : dict
        For the decision to publish it.
    """

    name: str
    version: str
    onnx_bytes: bytes
    metadata_json: bytes
    plot: bytes
    report: dict[str, Any]
    headers: list[str]
    table: list[list[str]]
    notes: str
    beats_baseline: bool
    evidence: dict[str, Any]

    @property
    def why_none(self) -> str:
        """Why no candidate can be published."""
        refusals = [f"{item['candidate']} {item['refusal']}" for item in self.report["candidates"]]
        return "; ".join(refusal for refusal in refusals if not refusal.endswith(" "))

    @property
    def compared_with_baseline(self) -> str:
        """The winner and the baseline in numbers."""
        metric, told = self.report["metric"], self.evidence
        return (
            f"{told['candidate']} is no better than the baseline: {metric} {told['over_folds']} against "
            f"{told['baseline_over_folds']} over the folds, {told['held_out'][metric]} against "
            f"{told['baseline_held_out'][metric]} on held-out events"
        )

    def write(self, folder: Path) -> list[Path]:
        """Write table, plot and artefact into a folder."""
        artefact = (self.onnx_bytes, self.metadata_json) if self.version else None
        return write_files(folder, self.name, self.report, self.plot, artefact)


class Trainer:
    """Reads and trains; made with what was asked for, so that a wrong plan ends before anything is read.

    Raises
    ------
    TrainingError
        There is no such candidate.
    """

    def __init__(self, settings: Settings, wanted: Request, plan: Plan, clock: Callable[[], float]) -> None:
        self._settings, self._wanted, self._plan, self._clock = settings, wanted, plan, clock
        self._candidates = choose_candidates(
            wanted.candidates, wanted.task, wanted.normaliser, plan.seed, plan.n_jobs
        )
        self._rows: Rows | None = None
        self._read: dict[str, Any] = {}
        self._sample: Sample | None = None

    @property
    def n_steps(self) -> int:
        """Steps of the training."""
        return count_steps(self._candidates, self._plan)

    def read_source(
        self,
        name: str,
        options: SourceOptions,
        limit: int | None,
        on_read: Callable[[int], object] = lambda n_events: None,
    ) -> None:
        """Read a file or a named data set."""
        wanted = self._wanted
        if wanted.from_offsets or wanted.to_offsets:
            raise TrainingError("--from, --to: offsets are those of topics; a source is chosen from by time")
        source, target = open_training_source(name, options, wanted.target, limit)
        self._rows = read_source(source, self._settings, wanted.predicting(target), limit, on_read)
        self._read = {"source": Path(source.name).name}

    async def read_topics(self, on_read: Callable[[int], object] = lambda n_events: None) -> None:
        """Read labelled events back from Kafka."""
        settings = self._settings
        gathered = await read_topics(settings, self._wanted, on_read)
        self._rows = gathered.rows
        self._read = {
            "events": settings.topic_events,
            "labels": settings.topic_labels,
            "label_delay_seconds": settings.label_delay_seconds,
            "offsets": {str(number): list(span) for number, span in gathered.ranges.items()},
        }

    def describe_sample(self) -> str:
        """Take the sample, and say what is in it and what is not."""
        assert self._rows is not None
        wanted, tally = self._wanted, self._rows.tally
        try:
            self._sample = sample = self._rows.newest.take(
                normaliser=wanted.normaliser,
                missing=wanted.missing,
                features=wanted.features,
                without=wanted.target,
                positive=wanted.positive,
            )
        except TrainingError as error:
            raise TrainingError(f"{error} ({tally})") from None
        self._read["n_events_read"] = tally.n_events
        self._read["n_labels"] = self._rows.newest.n_added
        lines = [str(tally), f"training on {_describe(sample)}"]
        if self._rows.newest.n_added > len(self._rows.newest):
            n_older = self._rows.newest.n_added - len(self._rows.newest)
            lines.append(f"{n_older:,} older labelled events are left out (--max-events)")
        if sample.n_incomplete:
            lines.append(f"{sample.n_incomplete:,} events that lack a feature are left out")
        if sample.left_out:
            told = ", ".join(f"{name} ({share:.0%})" for name, share in sample.left_out.items())
            lines.append(f"features that few events have are left out: {told}")
        return "\n".join(lines)

    def train(
        self, on_step: Callable[[str], None], on_line: Callable[[str], None], n_threads: int
    ) -> Trained:
        """Train on the sample; what `on_step` raises ends it.

        Raises
        ------
        TrainingError
            There is too little to learn from.
        """
        assert self._sample is not None
        assert self._rows is not None
        try:
            with threadpool_limits(n_threads):
                outcome = train(
                    self._sample,
                    self._candidates,
                    self._plan,
                    needed_fields(self._wanted, self._sample),
                    self._clock,
                    max_bytes=self._settings.max_artefact_bytes,
                    on_step=on_step,
                    on_finalist=lambda finalist: on_line(tell_short(finalist, self._plan)),
                )
        except TrainingError as error:
            raise TrainingError(f"{error} ({self._rows.tally})") from None
        return self._pack(self._sample, outcome)

    def _pack(self, sample: Sample, outcome: Outcome) -> Trained:
        wanted, plan = self._wanted, self._plan
        trained_on = describe_data(self._settings, wanted, sample, plan, self._read)
        report = {**describe(outcome, plan), "name": wanted.name, "trained_on": trained_on}
        title = f"{wanted.name}: {wanted.target} by {len(sample.features)} features, {plan.primary}"
        version, onnx_bytes, metadata_json = "", b"", b""
        if outcome.winner is not None:
            winner, metadata_json, version = pack(wanted, sample, plan, outcome, trained_on)
            onnx_bytes = winner.onnx_bytes
        return Trained(
            name=wanted.name,
            version=version,
            onnx_bytes=onnx_bytes,
            metadata_json=metadata_json,
            plot=draw(report, f"{title}, {len(sample.targets):,} events"),
            report=report,
            headers=headers(plan),
            table=tell_rows(outcome, plan),
            notes="\n".join(_notes(outcome, plan)),
            beats_baseline=outcome.beats_baseline,
            evidence=_evidence(report),
        )


def _notes(outcome: Outcome, plan: Plan) -> list[str]:
    notes = [f"{item.name}: {told}" for item in outcome.finalists if (told := tell_parameters(item))]
    n_unusable = plan.n_folds - outcome.n_folds
    if n_unusable:
        notes.append(f"{n_unusable} of {plan.n_folds} folds left out: there is one class to learn from")
    return notes


def _evidence(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the decision to publish rests on."""
    by_state = {item["state"]: item for item in report["candidates"]}
    winner, baseline = by_state.get("winner"), by_state["baseline"]
    if winner is None:
        return {}
    metric = report["metric"]
    return {
        "candidate": winner["candidate"],
        "metric": metric,
        "over_folds": winner["cross_validation"][metric][0],
        "baseline_over_folds": baseline["cross_validation"][metric][0],
        "held_out": winner["held_out"],
        "baseline_held_out": baseline["held_out"],
        "n_events": report["rows"]["training"],
        "n_held_out": report["rows"]["held_out"],
    }


def _describe(sample: Sample) -> str:
    n_rows, names = len(sample.targets), ", ".join(sample.features[:8])
    more = f" and {len(sample.features) - 8} more" if len(sample.features) > 8 else ""
    told = f"{n_rows:,} labelled events by {names}{more}"
    if not sample.classes:
        return told
    counts = {name: int((sample.targets == name).sum()) for name in sample.classes}
    by_class = ", ".join(f"{n:,} of class {name}" for name, n in counts.items())
    return f"{told}; {by_class}; the score is the probability of {sample.positive}"
