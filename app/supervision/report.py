"""What all workers have learnt, as one report: the same from whichever worker it is asked.

Owns what a worker tells the others of its partitions, and how that is merged. Evaluations and comparisons
travel in their stored form and merge exactly; no metric is ever the mean of metrics.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.web.health import why_not_ready
from app.web.peers import ask_peers
from compute.comparison import Comparison
from compute.evaluation import Evaluation
from tables.learning import Compared, Evaluated

PATH = "/api/evaluations"

TIMEOUT_SECONDS = 10.0
"""For a worker to tell: with many groups that is megabytes."""

N_DECISIONS = 50
"""Latest entries of the audit trail that a report for people has."""

ONLINE, BUILT_IN = "online", "detector"


@dataclass
class Report:
    """What was learnt, merged.

    Attributes
    ----------
    evaluations : dict of Evaluated to Evaluation
    comparisons : dict of Compared to Comparison
    labels : Counter
        By what became of them.
    drift : list of dict
        By partition.
    supervisors : list of dict
        What workers that supervised say of it; one of them still does.
    unanswered : list of str
        Workers that could not tell.
    numbers : list of int
        Partitions that were told of.
    """

    evaluations: dict[Evaluated, Evaluation] = field(default_factory=dict)
    comparisons: dict[Compared, Comparison] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    drift: list[dict[str, Any]] = field(default_factory=list)
    supervisors: list[dict[str, Any]] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, told: Sequence[dict[str, Any]], unanswered: Sequence[str] = ()) -> Report:
        """Merge what workers told; in the order of partitions, so that it is the same to the last bit."""
        report = cls(supervisors=[one["supervisor"] for one in told], unanswered=list(unanswered))
        parts = [part for one in told for part in one["partitions"]]
        for part in sorted(parts, key=lambda part: part["number"]):
            if part["number"] not in report.numbers:  # in a rebalance two workers may tell of the same
                report.numbers.append(part["number"])
                report._add(part)
        return report

    def _add(self, part: dict[str, Any]) -> None:
        self.labels.update(part["labels"])
        self.drift += part["drift"]
        for names, stored in part["evaluations"]:
            _merge(self.evaluations, Evaluated(*names), Evaluation.decode(base64.b64decode(stored)))
        for names, stored in part["comparisons"]:
            _merge(self.comparisons, Compared(*names), Comparison.decode(base64.b64decode(stored)))

    @property
    def n_labels(self) -> int:
        """Labels that were joined to their predictions."""
        return self.labels["joined"]


def _merge(known: dict[Any, Any], about: Any, found: Any) -> None:
    if about in known:
        known[about].merge(found)
    else:
        known[about] = found


def tell(app: Any) -> dict[str, Any]:
    """Return what this worker has learnt of the partitions that it holds."""
    parts = []
    if not why_not_ready(app):
        for number in app.statistics.held():
            learning = app.statistics.partition(number).learning
            parts.append(
                {
                    "number": number,
                    "labels": dict(learning.counts),
                    "drift": learning.describe_drift(),
                    "evaluations": _stored(learning.evaluations),
                    "comparisons": _stored(learning.comparisons),
                }
            )
    return {"partitions": parts, "supervisor": app.supervision.describe()}


def _stored(parts: dict[Any, Any]) -> list[Any]:
    return [[list(about), base64.b64encode(part.encode()).decode()] for about, part in parts.items()]


async def gather(app: Any) -> Report:
    """Ask all workers and merge what they tell."""
    peers = await ask_peers(app, PATH, timeout_seconds=TIMEOUT_SECONDS)
    return Report.of([tell(app), *peers.bodies], peers.unanswered)


def describe(app: Any, report: Report) -> dict[str, Any]:
    """Return a report for people."""
    settings = app.nowcast_settings
    supervisor = max(report.supervisors, key=lambda told: told["looked_at"] or 0.0)
    return {
        "evaluations": describe_evaluations(app.models, report),
        "comparisons": [
            {
                **_describe_comparison(about, comparison),
                **_describe_verdict(app.models, about, comparison, settings),
                "current": _is_current(app.models, about),
            }
            for about, comparison in report.comparisons.items()
        ],
        "labels": dict(report.labels),
        "drift": sorted(report.drift, key=lambda item: item["partition"]),
        "training": supervisor["training"],
        "history": supervisor["history"],
        "decisions": app.models.describe_decisions()[:N_DECISIONS],
        "unanswered": report.unanswered,
    }


def _describe_comparison(about: Compared, comparison: Comparison) -> dict[str, Any]:
    told = comparison.describe()
    metrics = {role: told.pop(role) for role in ("champion", "challenger")}
    return {**about._asdict(), **told, "metrics": metrics}


def _describe_verdict(models: Any, about: Compared, comparison: Comparison, settings: Any) -> dict[str, Any]:
    # What is no challenger, such as the online learner, is judged like the first one.
    number = models.number_challengers(about.champion).get(about.challenger, 1)
    _, evidence = verdict(comparison, settings, number)
    return {name: evidence[name] for name in ("challenger_number", "e_value_needed", "better")}


def describe_evaluations(models: Any, report: Report) -> list[dict[str, Any]]:
    """Return the evaluations of a report as they are published, champion and challengers first."""
    rows = [
        {
            "model": about.model,
            "version": about.version,
            "role": role_of(models, about.model, about.version),
            "group": about.group,
            **evaluation.describe(),
        }
        for about, evaluation in report.evaluations.items()
    ]
    order = ["champion", "challenger", ONLINE, "built-in", "former"]
    return sorted(
        rows, key=lambda row: (order.index(row["role"]), row["model"], row["version"], row["group"])
    )


def role_of(models: Any, name: str, version: str) -> str:
    """Return what a version is to those that serve now."""
    if name in (ONLINE, BUILT_IN):
        return ONLINE if name == ONLINE else "built-in"
    role: str = models.role_of(version)
    return role if role in ("champion", "challenger") else "former"


def verdict(comparison: Comparison, settings: Any, number: int) -> tuple[bool, dict[str, Any]]:
    """Tell whether a champion's challenger of this number is better by the rule, and on what evidence."""
    return comparison.verdict(
        settings.promotion_margin, settings.promotion_significance, settings.promotion_min_labels, number
    )


def _is_current(models: Any, about: Compared) -> bool:
    """Tell whether the two are champion and challenger now."""
    champion = (BUILT_IN,) if models.serving is None else (models.serving.name, models.serving.version)
    ours = (about.model,) if models.serving is None else (about.model, about.champion)
    return ours == champion and any(model.version == about.challenger for model in models.challengers)
