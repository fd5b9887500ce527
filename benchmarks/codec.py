"""What decoding, scoring, alerting and encoding cost without a broker: `python -m benchmarks.codec`.

Batches of 4,000 events with 4 features of 250 entities, the size of one fetch from one of 4 partitions.
Figures are microseconds an event, of the fastest of many runs, so that other load counts least.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timezone

import numpy as np

from compute.alert_columns import AlertColumns
from compute.alerts import AlertRule, evaluate_alerts
from compute.detector import predict_anomalies, score_anomalies
from compute.events import DecodeLimits, decode_batch
from compute.predictions import encode_predictions

N_EVENTS = 4_000
N_ENTITIES = 250
N_RUNS = 40
NAMES = ("temperature", "pressure", "humidity", "vibration")
START_SECONDS = 1_700_000_000.0


def measure(stage: str, run: Callable[[], object], goal: float | None = None) -> None:
    fastest = min(_seconds(run) for _ in range(N_RUNS)) / N_EVENTS * 1e6
    print(f"{stage:<44}{fastest:8.3f}" + (f"   goal {goal}" if goal else ""))


def main() -> None:
    rng = np.random.default_rng(7)
    numbers = rng.normal(20.0, 5.0, (N_EVENTS, len(NAMES)))
    times = START_SECONDS + np.arange(N_EVENTS) * 0.25
    slots = rng.integers(0, N_ENTITIES, N_EVENTS)
    keys: list[bytes | None] = [b"sensor-%d" % slot for slot in slots]
    iso = [datetime.fromtimestamp(seconds, timezone.utc).isoformat() for seconds in times]

    def decode(timestamps: list[object], features: list[dict[str, object]]) -> Callable[[], object]:
        values: list[bytes | None] = [
            json.dumps({"timestamp": timestamp, "features": values}).encode()
            for timestamp, values in zip(timestamps, features, strict=True)
        ]
        return lambda: decode_batch(
            keys, values, times, limits=DecodeLimits(), now=times[-1], feature_names=NAMES
        )

    plain: list[dict[str, object]] = [dict(zip(NAMES, row, strict=True)) for row in numbers.tolist()]
    gaps = [
        {name: None if row % 5 == 0 else n for name, n in event.items()} for row, event in enumerate(plain)
    ]
    mixed = [dict(list(event.items())[row % 4 :]) for row, event in enumerate(plain)]
    bad = [event | {"temperature": "warm"} for event in plain]
    print("microseconds an event")
    measure("decode, epoch seconds", decode(times.tolist(), plain), goal=1.0)
    measure("decode, ISO 8601", decode(iso, plain))
    measure("decode, a fifth of the events with nulls", decode(times.tolist(), gaps))
    measure("decode, four schemas", decode(times.tolist(), mixed))
    measure("decode, every event rejected", decode(times.tolist(), bad))

    z = (numbers - 20.0) / 5.0
    warm = np.zeros(N_EVENTS, bool)
    scores = score_anomalies(z, warm)
    measure("score", lambda: score_anomalies(z, warm))

    support = np.full(N_EVENTS, 99)
    for stage, rule in (
        ("alerts, quiet", AlertRule(threshold=0.99)),
        ("alerts, 1 event in 100 exceeds", AlertRule(threshold=float(np.quantile(scores, 0.99)))),
        ("alerts, every event exceeds", AlertRule(threshold=0.0, critical=2.0)),
    ):
        measure(
            stage,
            lambda rule=rule: evaluate_alerts(  # type: ignore[misc]
                AlertColumns(N_ENTITIES), slots, scores, times, support, warm, rule
            ),
        )
    columns = AlertColumns(N_ENTITIES)
    measure("alert state of 250 entities, pack", lambda: columns.pack(np.arange(N_ENTITIES)))

    def encode(**others: object) -> Callable[[], object]:
        return lambda: encode_predictions(
            topic="events",
            partition=2,
            offsets=np.arange(N_EVENTS),
            keys=keys,  # type: ignore[arg-type]
            timestamps=times,
            scores=scores,
            predictions=predict_anomalies(scores, 0.8),
            warming_up=warm,
            model="detector",
            version="builtin-1",
            **others,  # type: ignore[arg-type]
        )

    measure("encode predictions", encode(), goal=0.8)
    measure("encode predictions with normalised features", encode(normalised=z, feature_names=NAMES))


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
