"""Following the models topic: on and on, over failures of the broker, anew where the topic is another one.

Owns when records are taken and when what they come to is settled: whenever the end is reached that the topic
had when reading began, so that nobody acts on half of what was decided. What becomes of the records is the
business of `tables/models.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaConnectionError

from tables.model_loading import Reader
from tables.model_topic import ModelTopic, TopicError

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0


class ModelFollower:
    """Reads the topic from `start` to `stop`; what inherits takes the records.

    Parameters
    ----------
    settings : app.settings.Settings

    Attributes
    ----------
    problem : str
        Why the topic cannot be read at the moment; empty while it can.
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._position = 0
        self._is_behind = False
        self._caught_up = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self.problem = ""

    def _begin_anew(self) -> None:
        """Forget what the topic had; what serves goes on until it is read again."""
        raise NotImplementedError

    async def _add(self, record: ConsumerRecord) -> None:
        """Take a record, in the order of the topic."""
        raise NotImplementedError

    async def _settle(self, read: Reader) -> None:
        """Act on all that was taken; asked again where it raises."""
        raise NotImplementedError

    async def start(self) -> None:
        """Begin to read, and go on until `stop`."""
        if not self.is_following:
            self._begin_anew()
            self._position = 0
            self._following = asyncio.create_task(self._follow(), name="models-table")

    @property
    def is_following(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._following is not None

    @property
    def caught_up(self) -> bool:
        """Whether everything that was published before the start is held."""
        return self._caught_up.is_set()

    async def catch_up(self, timeout: float) -> None:
        """Wait until everything that was published before the start is held.

        Raises
        ------
        TimeoutError
            Not within `timeout` seconds; the message says what is in the way.
        """
        try:
            await asyncio.wait_for(self._caught_up.wait(), timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(self.why_behind(timeout)) from None

    def why_behind(self, waited_seconds: float) -> str:
        """Return what is in the way of catching up, after so long a wait."""
        reason = self.problem or f"it is still being read after {waited_seconds:g} s"
        return f"topic {self._settings.topic_models!r} is not read to its end: {reason}"

    async def stop(self) -> None:
        """Stop reading; what is held stays."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    async def _follow(self) -> None:
        self._pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                async with ModelTopic(self._settings) as topic:
                    await self._read_on(topic)
            except Exception as error:  # without this task a worker would serve an old model for ever
                told = str(error) or type(error).__name__
                if isinstance(error, KafkaConnectionError):
                    told = f"cannot reach Kafka at {self._settings.broker} (NOWCAST_BROKER)"
                if told != self.problem:
                    log.warning("models topic not read, trying again: %s", told)
                self.problem = told
                await asyncio.sleep(self._pause)
                self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    async def _read_on(self, topic: ModelTopic) -> None:
        """Read from where the last reader ended, and settle roles whenever the end is reached."""
        if not topic.beginning <= self._position <= topic.end:
            # The topic was made anew, or compaction took what was left off at. The embedded broker also says
            # an end that lies before that of a batch of several records. Roles stay until all is read again.
            self._begin_anew()
            self._position = topic.beginning
        topic.seek(self._position)
        self.problem = ""
        records: list[ConsumerRecord] = []
        while True:
            if topic.position >= topic.end:
                if self._is_behind:
                    await self._settle(_reader(topic, records))
                    self._is_behind = False
                self._caught_up.set()
            records = await topic.read()
            if topic.position < self._position or (records and records[0].offset < self._position):
                self._position = -1
                raise TopicError(f"topic {self._settings.topic_models!r} was made anew, reading all of it")
            for record in records:
                self._is_behind = True
                await self._add(record)
            self._position = topic.position
            self._pause = _FIRST_PAUSE_SECONDS


def _reader(topic: ModelTopic, records: list[ConsumerRecord]) -> Reader:
    recent = {record.offset: record for record in records}

    async def read(offset: int) -> ConsumerRecord | None:
        return recent.get(offset) or await topic.fetch(offset)

    return read
