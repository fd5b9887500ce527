"""Contender: plain Faust with a RocksDB table, which it recovers from the changelog it is given.

The application has the name of Nowcast's group, so its table `statistics` has the same changelog. A file says
that recovery is over.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import faust


def create_app(bootstrap: str, group: str, events_topic: str, data: str, partitions: int) -> faust.App:
    """Build the application; `data` is the directory of its store."""
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        store="rocksdb://",
        datadir=data,
        topic_partitions=partitions,
        topic_replication_factor=1,
        topic_disable_leader=True,
    )
    app.Table(
        "statistics",
        key_type=bytes,
        value_type=bytes,
        partitions=partitions,
        options={"driver": "rocksdict"},
    )

    @app.agent(app.topic(events_topic, value_serializer="raw", key_serializer="raw"))
    async def score(stream: Any) -> None:
        async for _ in stream:
            pass

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "group", "events", "data", "ready"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    args = parser.parse_args()
    app = create_app(args.bootstrap, args.group, args.events, args.data, args.partitions)

    @app.task
    async def tell() -> None:
        """Faust starts tasks when recovery is over."""
        Path(args.ready).touch()

    sys.argv = ["faust", "worker", "--loglevel", "warn", "--without-web"]
    app.main()
