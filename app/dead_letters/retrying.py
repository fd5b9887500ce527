"""Sending dead letters back to their source topic, each once; why a marker, says `records.py`.

Events leave in turns: all of a turn are sent, and when the broker has answered, the markers of those it took.
So a crash between the two, or an answer that got lost, can send at most one turn's events a second time.
Turns of one event would make that one event, at 900 events/s instead of 24,000 (Apache Kafka, two cores).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.dead_letters.records import DeadLetter, Place, marker_headers, read_record
from app.topic_reading import TopicReading
from app.topics import StartError

TURN_RECORDS = 100


class TruncatedError(KafkaError):  # type: ignore[misc]
    """The dead letter does not hold the whole event, so it cannot be sent again from here."""


@dataclass
class Retry:
    """What a retry did.

    Attributes
    ----------
    n_sent : int
        Events that the broker took, and whose markers it has.
    n_refused : int
        Events that cannot be sent, for their own sake; they stay as they are.
    refusal : str
        The first such reason.
    """

    n_sent: int = 0
    n_refused: int = 0
    refusal: str = ""


async def retry_letters(
    reading: TopicReading,
    producer: AIOKafkaProducer,
    offsets: dict[Place, set[int]],
    *,
    limit: int | None = None,
    stopping: asyncio.Event | None = None,
    on_sent: Callable[[int], object] = lambda n_events: None,
) -> Retry:
    """Send the events at these offsets of their source topics again, in the order of their dead letters.

    Parameters
    ----------
    reading : TopicReading
        Of the dead-letters topic.
    producer : AIOKafkaProducer
        Started.
    offsets : dict of Place to set of int
        What a survey found open; it is used up.
    limit : int, optional
        Stop after so many events.
    stopping : asyncio.Event, optional
        Ends it after the turn in hand.
    on_sent : callable
        Called with the number of events sent since the last call.

    Raises
    ------
    StartError
        The broker stopped answering; the message says how many events were sent.
    """
    done = Retry()
    n_left = sum(map(len, offsets.values()))
    n_left = n_left if limit is None else min(n_left, limit)
    if not n_left:
        return done
    try:
        async for records in reading.read_all(TURN_RECORDS):
            turn: list[DeadLetter] = []
            for record in records:
                letter = read_record(record)
                if isinstance(letter, DeadLetter) and len(turn) < n_left:
                    open_offsets = offsets.get(letter.place, set())
                    if letter.reason.offset in open_offsets:
                        open_offsets.discard(letter.reason.offset)  # its copies are not sent
                        turn.append(letter)
            if turn:
                await _send_turn(producer, reading.topic, turn, done)
                n_left -= len(turn)
                on_sent(len(turn))
            if not n_left or (stopping is not None and stopping.is_set()):
                break
    except (KafkaError, StartError) as error:
        reason = str(error) or type(error).__name__
        raise StartError(
            f"stopped after {done.n_sent:,} events: {reason}; run it again for those that are left"
        ) from None
    return done


async def _send_turn(producer: AIOKafkaProducer, topic: str, turn: list[DeadLetter], done: Retry) -> None:
    sent = [await _send_event(producer, letter) for letter in turn]
    results = await asyncio.gather(*sent, return_exceptions=True)
    taken = [letter for letter, result in zip(turn, results, strict=True) if not _failed(result)]
    markers = [
        await producer.send(
            topic, b"", key=letter.key, partition=letter.partition, headers=marker_headers(letter)
        )
        for letter in taken
    ]
    await asyncio.gather(*markers)
    done.n_sent += len(taken)
    for letter, result in zip(turn, results, strict=True):
        if not _failed(result):
            continue
        if not isinstance(result, KafkaError) or result.retriable:
            raise result
        done.n_refused += 1
        done.refusal = done.refusal or f"{letter.event_id}: {str(result) or type(result).__name__}"


def _failed(result: Any) -> bool:
    return isinstance(result, BaseException)


async def _send_event(producer: Any, letter: DeadLetter) -> Any:
    """Hand over the event with the time of now; return the broker's answer, or the client's refusal."""
    topic, partition = letter.place
    known = await producer.partitions_for(topic)
    # The partition that it came from holds its entity's state; a topic made anew may lack it.
    chosen = partition if partition in known else None
    try:
        if letter.truncated:
            raise TruncatedError("only its beginning is here; its source has the whole")
        if letter.key is None and letter.value is None:  # `send` takes no such record
            batch = producer.create_batch()
            batch.append(timestamp=None, key=None, value=None, headers=letter.headers)
            return await producer.send_batch(batch, topic, partition=min(known) if chosen is None else chosen)
        return await producer.send(
            topic, letter.value, key=letter.key, partition=chosen, headers=letter.headers
        )
    except KafkaError as error:
        refused = asyncio.get_running_loop().create_future()
        refused.set_exception(error)
        return refused
