"""The table of candidates as a picture: how good, and how fast.

Owns the drawing; numbers come from `compute/training/report.py`. A PNG that fits beside an artefact.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from compute.training.plan import LOWER_IS_BETTER

_WIDTH_INCHES, _ROW_INCHES, _DOTS_PER_INCH = 9.0, 0.42, 90
_COLOURS = {"winner": "#1a7f37", "converted": "#3b6ea5", "refused": "#b3261e", "baseline": "#6e7781"}


def draw(report: Mapping[str, Any], title: str) -> bytes:
    """Return a PNG of a report.

    On the left each fold's score as a dot, their mean as a bar across, and the held-out score as a diamond;
    on the right the time that one event takes.

    Parameters
    ----------
    report : mapping
        As `describe` returns it.
    title : str

    Returns
    -------
    bytes
        About 20 kB.
    """
    rows = [item for item in report["candidates"] if item["folds"]][::-1]
    figure = Figure(figsize=(_WIDTH_INCHES, 1.3 + _ROW_INCHES * max(len(rows), 3)), dpi=_DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    good, fast = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    for row, item in enumerate(rows):
        _draw_scores(good, row, item, report["metric"])
        if item["event_microseconds"]:
            fast.barh(row, item["event_microseconds"], height=0.5, color=_COLOURS[item["state"]])
    metric = report["metric"]
    direction = "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
    good.set_xlabel(f"{metric} ({direction}): folds, their mean |, held out ◆", fontsize=8)
    good.set_yticks(range(len(rows)), [_name(item) for item in rows], fontsize=9)
    fast.set_xlabel("us an event, by ONNX Runtime", fontsize=8)
    if any(item["event_microseconds"] for item in rows):
        fast.set_xscale("log")
    for axes in (good, fast):
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="x", linewidth=0.4, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})  # the same numbers, the same bytes
    return png.getvalue()


def _draw_scores(axes: Any, row: int, item: Mapping[str, Any], metric: str) -> None:
    colour = _COLOURS[item["state"]]
    values = [value for value in item["folds"] if value is not None]
    axes.plot(values, [row] * len(values), "o", color=colour, markersize=4, alpha=0.5)
    mean = item["cross_validation"][metric][0]
    if mean is not None:
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color=colour, linewidth=2)
    held_out = item["held_out"].get(metric)
    if held_out is not None:
        axes.plot(held_out, row, "D", color=colour, markersize=6, markerfacecolor="white")


def _name(item: Mapping[str, Any]) -> str:
    marks = {"winner": " *", "refused": " (refused)"}
    return str(item["candidate"]) + marks.get(item["state"], "")
