"""Topics on Apache Kafka: created as specified, and checked when they are there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from app.settings import Settings
from app.topics import StartError, TopicSpec, ensure_topics, required_topics
from tests.live.brokers import KafkaBroker
from tests.live.workers import Workers

TIMEOUT_SECONDS = 60


@pytest.fixture
def admin(kafka_broker: KafkaBroker) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka_broker.bootstrap})


@pytest.fixture
def settings(kafka_broker: KafkaBroker, tmp_path: Path) -> Settings:
    """Topics of their own for each test, three partitions."""
    return Settings(
        **{**Workers(tmp_path, kafka_broker.url).settings, "partitions": 3, "retention_hours": 2.0}
    )


def create(admin: AdminClient, name: str, n_partitions: int, **config: str) -> None:
    topic = NewTopic(name, n_partitions, 1, config={key.replace("_", "."): config[key] for key in config})
    admin.create_topics([topic])[name].result(TIMEOUT_SECONDS)


def create_as_specified(admin: AdminClient, spec: TopicSpec, **other: str) -> None:
    config = {key.replace(".", "_"): value for key, value in spec.creation_config.items()}
    create(admin, spec.name, spec.partitions, **{**config, **other})


def read_config(admin: AdminClient, name: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    entries = admin.describe_configs([resource])[resource].result(TIMEOUT_SECONDS)
    return {key: entry.value for key, entry in entries.items()}


def read_partitions(admin: AdminClient, name: str) -> list[int]:
    """Replicas of each partition."""
    return [len(item.replicas) for item in admin.list_topics(name).topics[name].partitions.values()]


def spec_of(settings: Settings, name: str) -> TopicSpec:
    return next(spec for spec in required_topics(settings) if spec.name == name)


def ensure(settings: Settings) -> None:
    asyncio.run(ensure_topics(settings))


def refusal(settings: Settings) -> str:
    with pytest.raises(StartError) as caught:
        ensure(settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_topics_are_created_with_partitions_replicas_retention_and_compaction(
    admin: AdminClient, settings: Settings
) -> None:
    ensure(settings)
    changelog = f"{settings.group}-statistics-changelog"
    for name in (settings.topic_events, settings.topic_predictions, settings.topic_alerts):
        assert read_partitions(admin, name) == [1, 1, 1]
        assert read_config(admin, name)["cleanup.policy"] == "delete"
    assert read_partitions(admin, settings.topic_dead_letters) == [1, 1, 1]
    for name in (settings.topic_predictions, settings.topic_alerts, settings.topic_dead_letters):
        assert read_config(admin, name)["retention.ms"] == str(2 * 3_600_000)
    assert read_partitions(admin, settings.topic_models) == [1]
    assert read_partitions(admin, changelog) == [1, 1, 1]
    for name in (settings.topic_models, changelog):
        assert read_config(admin, name)["cleanup.policy"] == "compact"
    # A batch is bounded, so there must be room around the largest record.
    assert int(read_config(admin, settings.topic_models)["max.message.bytes"]) > settings.max_artefact_bytes
    dead_letters = read_config(admin, settings.topic_dead_letters)
    assert int(dead_letters["max.message.bytes"]) > settings.max_event_bytes


def test_topics_that_fit_are_left_as_they_are(admin: AdminClient, settings: Settings) -> None:
    create(admin, settings.topic_predictions, 3, retention_ms="3600000")
    ensure(settings)
    ensure(settings)
    assert read_config(admin, settings.topic_predictions)["retention.ms"] == "3600000"


def test_workers_that_start_at_once_do_not_stand_in_each_others_way(settings: Settings) -> None:
    async def start_three() -> None:
        await asyncio.gather(*(ensure_topics(settings) for _ in range(3)))

    asyncio.run(start_three())


@pytest.mark.parametrize("topic", ["events", "predictions", "alerts", "dead_letters"])
def test_other_partitions_are_refused(admin: AdminClient, settings: Settings, topic: str) -> None:
    name = getattr(settings, f"topic_{topic}")
    create_as_specified(admin, TopicSpec(name, 5))
    message = refusal(settings)
    assert f"topic '{name}' has 5 partitions, 3 needed" in message
    assert "NOWCAST_PARTITIONS=5" in message


def test_one_partition_asked_for_is_told_apart_from_the_one_of_the_models_topic(
    admin: AdminClient, settings: Settings
) -> None:
    create(admin, settings.topic_events, 5)
    message = refusal(settings.model_copy(update={"partitions": 1}))
    assert f"topic '{settings.topic_events}' has 5 partitions, 1 needed" in message
    assert "NOWCAST_PARTITIONS=5" in message
    assert "NOWCAST_TOPIC_MODELS" not in message


def test_a_models_topic_of_several_partitions_is_refused(admin: AdminClient, settings: Settings) -> None:
    create(admin, settings.topic_models, 3, cleanup_policy="compact")
    message = refusal(settings)
    assert f"topic '{settings.topic_models}' has 3 partitions, 1 needed" in message
    assert "NOWCAST_TOPIC_MODELS" in message


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
@pytest.mark.parametrize("topic", ["models", "changelog"])
def test_a_topic_that_forgets_what_must_be_kept_is_refused(
    admin: AdminClient, settings: Settings, topic: str, policy: str
) -> None:
    name = settings.topic_models if topic == "models" else f"{settings.group}-statistics-changelog"
    create_as_specified(admin, spec_of(settings, name), cleanup_policy=policy)
    message = refusal(settings)
    assert f"topic '{name}' has cleanup.policy={policy}" in message
    assert "--add-config cleanup.policy=compact" in message


@pytest.mark.parametrize("topic", ["models", "changelog", "dead_letters"])
def test_a_topic_too_small_for_its_largest_record_is_refused(
    admin: AdminClient, settings: Settings, topic: str
) -> None:
    name = (
        f"{settings.group}-statistics-changelog"
        if topic == "changelog"
        else str(getattr(settings, f"topic_{topic}"))
    )
    spec = spec_of(settings, name)
    create_as_specified(admin, spec, max_message_bytes="1000000")
    message = refusal(settings)
    assert f"topic '{name}' has max.message.bytes=1000000, {spec.min_message_bytes} needed" in message
    assert f"--add-config max.message.bytes={spec.min_message_bytes}" in message


def test_more_replicas_than_brokers_is_refused(settings: Settings) -> None:
    message = refusal(settings.model_copy(update={"replication": 3}))
    assert "cannot be created" in message
    assert "replication" in message.lower()
