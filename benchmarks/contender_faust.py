"""Contender: plain Faust as its documentation teaches it, one event at a time.

The statistics are a Faust table on RocksDB with a changelog, as durable as Nowcast's. JSON goes through
msgspec, as it does for the others, so that the comparison is not one of JSON libraries.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import faust
import msgspec
import numpy as np
from faust.serializers import codecs

from benchmarks.job import BIAS, FEATURES, MODEL_NAME, NOISE, TINY, WEIGHTS, Z_LIMIT


class MsgspecCodec(codecs.Codec):
    """JSON by msgspec, under the name `msgspec`."""

    def _dumps(self, obj: Any) -> bytes:
        return msgspec.json.encode(obj)

    def _loads(self, s: bytes) -> Any:
        return msgspec.json.decode(s)


def create_app(
    bootstrap: str, group: str, events_topic: str, predictions_topic: str, data: str, partitions: int
) -> faust.App:
    """Build the application; `data` is the directory of its store."""
    codecs.register("msgspec", MsgspecCodec())
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        store="rocksdb://",
        datadir=data,
        topic_partitions=partitions,
        topic_replication_factor=1,
        topic_disable_leader=True,
    )
    raw_keys: dict[str, Any] = {"key_type": bytes, "key_serializer": "raw"}
    events = app.topic(events_topic, value_serializer="msgspec", **raw_keys)
    predictions = app.topic(predictions_topic, value_serializer="msgspec", **raw_keys)
    statistics = app.Table(
        "statistics",
        key_type=bytes,
        value_type=bytes,
        partitions=partitions,
        options={"driver": "rocksdict"},
    )
    weights, zeros = np.array(WEIGHTS), [0.0] * len(FEATURES)

    @app.agent(events)
    async def score(stream: Any) -> None:
        async for event in stream.events():
            values = np.array([event.value["features"][name] for name in FEATURES])
            state = statistics.get(event.key)
            count, *moments = msgspec.json.decode(state) if state else (0, zeros, zeros)
            mean, m2 = np.array(moments)
            away = values - mean
            if count:
                stddev = np.maximum(np.sqrt(m2 / count), np.abs(mean) * NOISE + TINY)
                z = np.clip(away / stddev, -Z_LIMIT, Z_LIMIT)
            else:
                z = np.zeros(len(FEATURES))
            number = float(weights.dot(z) + BIAS)
            message = event.message
            await predictions.send(
                key=event.key,
                partition=message.partition,
                value={
                    "id": f"{message.topic}-{message.partition}-{message.offset}",
                    "key": event.key.decode(),
                    "timestamp": event.value["timestamp"],
                    "model": MODEL_NAME,
                    "version": "1",
                    "prediction": number,
                    "score": number,
                    "warming_up": count < 30,
                },
            )
            mean = mean + away / (count + 1)
            m2 = m2 + away * (values - mean)
            statistics[event.key] = msgspec.json.encode([count + 1, mean.tolist(), m2.tolist()])

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "group", "events", "predictions", "data"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    args = parser.parse_args()
    app = create_app(args.bootstrap, args.group, args.events, args.predictions, args.data, args.partitions)
    sys.argv = ["faust", "worker", "--loglevel", "warn", "--without-web"]
    app.main()
