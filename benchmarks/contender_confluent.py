"""Contender: a hand-written confluent-kafka loop with nothing durable, tuned for throughput.

Statistics live in a dict and are gone with the process; offsets are committed at the end. It reads until it
is stopped by SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, Producer

from benchmarks.job import FEATURES, MODEL_NAME, Running


class Event(msgspec.Struct, gc=False):
    timestamp: float
    features: dict[str, float]


class Prediction(msgspec.Struct, gc=False):
    id: str
    key: str
    timestamp: float
    model: str
    version: str
    prediction: float
    score: float
    warming_up: bool


def fail(error: KafkaError, message: Message) -> None:
    print(f"a prediction was not delivered: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def run(bootstrap: str, group: str, events_topic: str, predictions_topic: str) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
            "queued.min.messages": 100_000,
            "fetch.queue.backoff.ms": 5,  # with a full queue it would rest a second
            "fetch.message.max.bytes": 4_000_000,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 5,
            "batch.size": 900_000,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 500_000,
            "delivery.report.only.error": True,
            "on_delivery": fail,
        }
    )
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    decode = msgspec.json.Decoder(Event).decode
    encode = msgspec.json.Encoder().encode
    produce = producer.produce
    statistics: dict[bytes, Running] = {}
    consumer.subscribe([events_topic])
    while not stopping:
        # consume() waits until it has as many as asked for: the short wait bounds the latency at low rates.
        for message in consumer.consume(num_messages=2_000, timeout=0.005):
            if message.error():
                raise RuntimeError(message.error())
            key: Any = message.key()
            event = decode(message.value())
            state = statistics.get(key)
            if state is None:
                state = statistics[key] = Running()
            features = event.features
            score = state.score_and_learn([features[name] for name in FEATURES])
            partition = message.partition()
            value = encode(
                Prediction(
                    f"{events_topic}-{partition}-{message.offset()}",
                    key.decode(),
                    event.timestamp,
                    MODEL_NAME,
                    "1",
                    score,
                    score,
                    state.count <= 30,
                )
            )
            while True:
                try:
                    produce(predictions_topic, value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)
    producer.flush()
    consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "group", "events", "predictions"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    run(args.bootstrap, args.group, args.events, args.predictions)
