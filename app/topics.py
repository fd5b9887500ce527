"""Topics: what Nowcast needs on the broker, created before use and checked against what exists.

Owns names, partitions, retention and compaction. Leaves reading and writing to the transport.
Faust would create topics one by one when it first touches them, with the broker's defaults and
no word when an existing topic does not fit; a wrong partition count then shows up hours later as
state on the wrong worker. So everything is created and checked at the start, in one place.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from app.settings import MAX_STATE_BYTES, Settings
from tables.model_records import HEADROOM_BYTES

log = logging.getLogger(__name__)

KAFKA_MESSAGE_BYTES = 1_048_588
"""Kafka's default `max.message.bytes`."""

MESSAGE_OVERHEAD_BYTES = 65_536
"""Room for key, headers and framing above the payload a limit speaks of."""


class StartError(RuntimeError):
    """The worker cannot start; the message is one line and says what to do."""


@dataclass(frozen=True)
class TopicSpec:
    """What one topic must look like: partitions, unless any will do, and configuration, where it exists."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)
    compacted: bool = False
    min_message_bytes: int = 0
    partitions_hint: str = ""
    any_partitions: bool = False

    @property
    def creation_config(self) -> dict[str, str]:
        """Configuration of the topic when we are the ones to create it."""
        config = dict(self.config)
        config["cleanup.policy"] = "compact" if self.compacted else "delete"
        if self.min_message_bytes:
            config["max.message.bytes"] = str(self.min_message_bytes)
        return config


def changelog_topic(settings: Settings) -> str:
    """Name of the compacted topic that rebuilds the entities' state (Faust's naming)."""
    return f"{settings.group}-statistics-changelog"


def required_topics(settings: Settings) -> list[TopicSpec]:
    """List every topic a worker needs, input first.

    Predictions and alerts have the partitions of the events, since a prediction goes to the
    partition of its event; labels and the changelog have them too, since Faust assigns these together.
    """
    # A prediction or an alert may name every feature, with up to 256 characters.
    answer_bytes = 200_000 + 1_300 * settings.max_features
    answer_limit = answer_bytes if answer_bytes > KAFKA_MESSAGE_BYTES else 0
    retention = {"retention.ms": str(int(settings.retention_hours * 3_600_000))}
    n = settings.partitions
    return [
        TopicSpec(settings.topic_events, n),
        TopicSpec(settings.topic_labels, n),
        TopicSpec(settings.topic_predictions, n, retention, min_message_bytes=answer_limit),
        TopicSpec(settings.topic_alerts, n, retention, min_message_bytes=answer_limit),
        TopicSpec(
            settings.topic_dead_letters,
            n,
            retention,
            min_message_bytes=settings.max_dead_letter_bytes + MESSAGE_OVERHEAD_BYTES,
        ),
        TopicSpec(settings.topic_evaluations, n, retention, any_partitions=True),
        TopicSpec(
            settings.topic_models,
            1,  # one partition is one order of versions for all workers
            compacted=True,
            min_message_bytes=settings.max_artefact_bytes + HEADROOM_BYTES,
            partitions_hint="delete it or choose another NOWCAST_TOPIC_MODELS",
        ),
        TopicSpec(
            changelog_topic(settings),
            n,
            # Compaction only looks at closed segments; small ones keep recovery short.
            {"segment.bytes": "67108864", "min.cleanable.dirty.ratio": "0.3"},
            compacted=True,
            min_message_bytes=MAX_STATE_BYTES + MESSAGE_OVERHEAD_BYTES,
        ),
    ]


async def ensure_topics(settings: Settings, *, timeout_seconds: float = 30.0) -> None:
    """Create what is missing and check what exists.

    Raises
    ------
    StartError
        The broker cannot be reached or refuses, or a topic does not fit; one line says which.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.bootstrap_servers, client_id=f"{settings.group}-admin"
    )
    try:
        await asyncio.wait_for(admin.start(), timeout_seconds)
    except (KafkaConnectionError, asyncio.TimeoutError, OSError):
        await admin.close()
        raise StartError(
            f"cannot reach Kafka at {settings.broker} (NOWCAST_BROKER); is the broker running there?"
        ) from None
    try:
        await asyncio.wait_for(_ensure(admin, settings), timeout_seconds)
    except (KafkaError, asyncio.TimeoutError) as error:
        raise StartError(f"Kafka at {settings.broker} refused to prepare topics: {error!r}") from None
    finally:
        await admin.close()


async def _ensure(admin: AIOKafkaAdminClient, settings: Settings) -> None:
    specs = required_topics(settings)
    existing = set(await admin.list_topics())
    missing = [spec for spec in specs if spec.name not in existing]
    created: set[str] = set()
    if missing:
        response = await admin.create_topics(
            [
                NewTopic(spec.name, spec.partitions, settings.replication, topic_configs=spec.creation_config)
                for spec in missing
            ],
            timeout_ms=20_000,
        )
        for name, code, *reason in response.topic_errors:
            if not code:
                created.add(name)
            # Another worker that starts at the same time may have been faster: then it is checked below.
            elif for_code(code) is not TopicAlreadyExistsError:
                detail = (reason and reason[0]) or for_code(code).description
                raise StartError(f"topic {name!r} cannot be created: {detail}")
    await _check(admin, specs, created)


async def _check(admin: AIOKafkaAdminClient, specs: list[TopicSpec], created: set[str]) -> None:
    found: dict[str, int] = {}
    for _ in range(50):  # a topic just created may take a moment to be described
        described = await admin.describe_topics([spec.name for spec in specs])
        found = {item["topic"]: len(item["partitions"]) for item in described if not item["error_code"]}
        if all(found.get(spec.name) for spec in specs):
            break
        await asyncio.sleep(0.1)
    for spec in specs:
        n_found = found.get(spec.name)
        if n_found != spec.partitions and not (spec.any_partitions and n_found):
            hint = spec.partitions_hint or f"set NOWCAST_PARTITIONS={n_found}, or recreate the topic"
            needed = f"{n_found} partitions, {spec.partitions} needed"
            raise StartError(f"topic {spec.name!r} has {needed}: {hint}")
    for spec in specs:
        if spec.name not in created and (spec.compacted or spec.min_message_bytes):
            _check_config(spec, await _config(admin, spec.name))


def _check_config(spec: TopicSpec, config: dict[str, str]) -> None:
    policy = config.get("cleanup.policy")
    if spec.compacted and policy not in (None, "compact"):  # "compact,delete" forgets what is not renewed
        raise StartError(
            f"topic {spec.name!r} has cleanup.policy={policy}, compact needed: "
            f"kafka-configs.sh --alter --topic {spec.name} --add-config cleanup.policy=compact"
        )
    limit = config.get("max.message.bytes")
    if limit is not None and int(limit) < spec.min_message_bytes:
        raise StartError(
            f"topic {spec.name!r} has max.message.bytes={limit}, {spec.min_message_bytes} needed: "
            f"kafka-configs.sh --alter --topic {spec.name} "
            f"--add-config max.message.bytes={spec.min_message_bytes}"
        )


async def _config(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """Return a topic's configuration; empty where the broker does not tell (the embedded one)."""
    try:
        responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except KafkaError as error:
        log.info("configuration of topic %s not checked: %r", topic, error)
        return {}
    return {
        entry[0]: entry[1]
        for response in responses
        for resource in response.resources
        if resource[0] == 0
        for entry in resource[4]
        if entry[1]
    }
