"""Clients of Kafka that read topics outside of Faust, each by itself: no group, nothing is committed.

Owns how they are set up, so that what is true of all of them is said once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer

from tables.calm import calm


def new_reading_client(settings: Any, purpose: str, **options: Any) -> AIOKafkaConsumer:
    """Return a client that is not started; it reads from the beginning, and committed records only.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: bootstrap_servers, group.
    purpose : str
        What it reads; part of the name by which the broker's logs and quotas know it.
    options
        Of aiokafka's consumer, in place of or beside these.
    """
    consumer = AIOKafkaConsumer(
        **{
            "bootstrap_servers": settings.bootstrap_servers,
            "client_id": f"{settings.group}-{purpose}",
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            **options,
        }
    )
    calm(consumer._client)
    return consumer


@asynccontextmanager
async def open_reading_client(settings: Any, purpose: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """Start such a client, and stop it in the end, also where its start failed."""
    consumer = new_reading_client(settings, purpose, **options)
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()
