"""Clients of Kafka that wait a moment between attempts while the brokers are away."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.client import AIOKafkaClient

AWAY_SECONDS = 0.5


def calm(client: AIOKafkaClient) -> None:
    """Let a client wait a moment after each failure to reach any broker.

    Several of its loops answer a failure by asking for metadata at once: while the brokers are away that is
    a core at work and a thousand lines of log a second.
    """
    update = client._metadata_update

    async def update_and_wait(*args: Any) -> bool:
        updated: bool = await update(*args)
        if not updated:
            await asyncio.sleep(AWAY_SECONDS)
        return updated

    client._metadata_update = update_and_wait
