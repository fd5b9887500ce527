"""Whether the broker has transactions, asked before a worker starts in `exactly_once`."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, TransactionalIdAuthorizationFailed

from app.settings import Settings
from app.topics import StartError


async def ensure_transactions(settings: Settings, *, timeout_seconds: float = 30.0) -> None:
    """Take a transactional id once, as every partition will.

    Raises
    ------
    StartError
        The broker has no transactions, or does not allow them; one line says which and what to do.
    """
    name = f"{settings.group}-start"
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, transactional_id=name)
    try:
        await asyncio.wait_for(producer.start(), timeout_seconds)
    except TransactionalIdAuthorizationFailed:
        raise StartError(
            f"Kafka at {settings.broker} does not allow transactional id {name!r}, which "
            f"NOWCAST_DELIVERY=exactly_once needs: allow Write on transactional ids that begin with "
            f"{settings.group + '-'!r}"
        ) from None
    except (KafkaError, asyncio.TimeoutError) as error:
        raise StartError(
            f"the broker at {settings.broker} has no transactions, which NOWCAST_DELIVERY=exactly_once needs "
            f"({error!r}); use Apache Kafka, or NOWCAST_DELIVERY=at_least_once"
        ) from None
    finally:
        await producer.stop()
