"""Asking the other workers of the group.

Owns where they are and how they are asked. Faust hands every member of the group the addresses and partitions
of all with each assignment. A key's partition is not computed: which one it is depends on the partitioner of
whoever produced it (librdkafka's default is CRC32, Java's murmur2, and a key may even have gone both ways),
so every worker is asked what it holds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
from yarl import URL

TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class Answers:
    """What the peers said: bodies of those that had something, and who could not tell."""

    bodies: list[Any]
    unanswered: list[str]


def list_peers(app: Any) -> list[str]:
    """List the addresses of the other workers, by the last assignment."""
    assignor = app.assignor
    urls = {*assignor.tables_metadata(), *assignor.external_topics_metadata()}
    return sorted(url for url in urls if url != str(app.conf.canonical_url))


def list_unplaced_partitions(app: Any) -> list[int]:
    """List the partitions of events that no known address answers for.

    There are such when workers advertise the same address, say 127.0.0.1 on two machines: a lookup would then
    miss what only the other one holds.
    """
    settings = app.nowcast_settings
    placed = {
        partition
        for topics in app.assignor.external_topics_metadata().values()
        for partition in topics.get(settings.topic_events, ())
    }
    return sorted(set(range(settings.partitions)) - placed)


async def ask_peers(
    app: Any, raw_path: str, query: str = "", timeout_seconds: float = TIMEOUT_SECONDS
) -> Answers:
    """Ask all peers at once for what they hold themselves.

    Parameters
    ----------
    app : App
        This worker's application.
    raw_path : str
        Path as it was asked for, percent-encoding and all.
    query : str
        Further parameters, encoded.
    timeout_seconds : float

    Returns
    -------
    Answers
        A peer that says 404 holds nothing and is in neither list.
    """
    target = f"{raw_path}?local=1{'&' + query if query else ''}"
    token = app.nowcast_settings.token.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    urls = list_peers(app)
    answers = await asyncio.gather(
        *(_ask(app.http_client, url, target, headers, timeout_seconds) for url in urls)
    )
    return Answers(
        bodies=[body for status, body in answers if status == 200],
        unanswered=[url for url, (status, _) in zip(urls, answers, strict=True) if status not in (200, 404)],
    )


async def _ask(
    client: aiohttp.ClientSession, url: str, target: str, headers: dict[str, str], timeout_seconds: float
) -> tuple[int, Any]:
    # `encoded`: a key with a slash or a percent sign must arrive as it came.
    address = URL(url.rstrip("/") + target, encoded=True)
    try:
        async with client.get(
            address,
            headers=headers,
            allow_redirects=False,  # the token is for workers alone
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        ) as response:
            body = await response.read()
            return response.status, msgspec.json.decode(body) if response.status == 200 else None
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, msgspec.DecodeError):
        return 0, None
