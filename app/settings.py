"""Settings: `NOWCAST_*` environment variables over an optional TOML file, validated once at start.

Owns names, defaults and bounds. What a setting does is said where it is used. Nothing is read at
import; `load_settings` reads and either returns valid settings or raises one clear line.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import TomlConfigSettingsSource as TomlSource

from compute.events import DecodeLimits

PREFIX = "NOWCAST_"

MAX_STATE_BYTES = 16_000_000
"""Largest stored state of one entity; the changelog is made to take it."""


MAX_TRANSACTION_SECONDS = 300
"""Between checkpoints in exactly_once; Kafka takes no `transaction.timeout.ms` above 15 minutes."""

Topic = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[a-zA-Z0-9._-]+$")]


class SettingsError(ValueError):
    """A setting is wrong; the message is one line and names the setting, the bound and the value."""


class Settings(BaseSettings):
    """All settings of a worker; `NOWCAST_<NAME>` in the environment, `<name>` in the TOML file."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    # Kafka
    broker: str = "kafka://localhost:9092"
    group: str = Field("nowcast", min_length=1, max_length=200, pattern=r"^[a-zA-Z0-9._-]+$")
    partitions: int = Field(4, ge=1, le=10_000)
    replication: int = Field(1, ge=1, le=16)
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    topic_events: Topic = "events"
    topic_predictions: Topic = "predictions"
    topic_alerts: Topic = "alerts"
    topic_dead_letters: Topic = "dead-letters"
    topic_models: Topic = "models"
    topic_labels: Topic = "labels"
    topic_evaluations: Topic = "evaluations"
    retention_hours: float = Field(168.0, gt=0, description="of predictions, alerts and dead letters")
    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    session_timeout_seconds: float = Field(30.0, ge=6, le=300)
    instance_id: str = Field("", max_length=200, description="static group membership; empty: dynamic")

    # Record batches
    batch_events: int = Field(4_000, ge=1, le=100_000)
    batch_bytes: int = Field(4_000_000, ge=1_000, le=256_000_000)
    fetch_max_wait_ms: int = Field(10, ge=1, le=10_000)
    checkpoint_seconds: float = Field(1.0, ge=0.05, le=600)

    # Events
    max_event_bytes: int = Field(1_000_000, ge=100, le=100_000_000)
    max_features: int = Field(256, ge=1, le=4_096)
    future_seconds: float = Field(300.0, ge=0, le=86_400 * 366)

    # Windows
    window_seconds: float = Field(3_600.0, ge=1.0, le=86_400 * 366)
    panes: int = Field(12, ge=1, le=1_000)
    warmup_events: int = Field(30, ge=0, le=1_000_000)

    # State
    store: str = "rocksdb://"
    data_dir: Path = Path("nowcast-data")
    cached_entities: int = Field(20_000, ge=100, description="entities a partition keeps in memory")
    standby_replicas: int = Field(0, ge=0, le=16, description="workers that keep a copy of each partition")

    # Models
    model: str = Field("", description="name of the model that serves; empty: the one published last")
    model_timeout_seconds: float = Field(10.0, ge=0.1, le=300, description="of one call of the model")
    max_artefact_bytes: int = Field(64_000_000, ge=1_000, le=1_000_000_000)

    # Labels and evaluation
    label_delay_seconds: float = Field(3_600.0, ge=0, le=86_400 * 31, description="0: events' own alone")
    evaluation_seconds: float = Field(5.0, ge=0.2, le=3_600, description="between two evaluations")
    evaluation_groups: str = Field("", max_length=200, description="pattern of keys; its group is theirs")
    positive_class: str = Field("", max_length=200, description="that alerts are about; empty: the last")

    # Champion and challengers
    promotion: Literal["by_hand", "by_rule"] = "by_hand"
    promotion_min_labels: int = Field(200, ge=10, le=10_000_000)
    promotion_margin: float = Field(0.0, ge=0, le=1)
    promotion_significance: float = Field(0.01, gt=0, le=0.5)
    max_challengers: int = Field(3, ge=0, le=16)
    challenger_timeout_seconds: float = Field(1.0, ge=0.05, le=300, description="of one call of a challenger")

    # Training from the stream
    train_task: Literal["", "classification", "regression"] = ""
    train_name: str = Field("trained", pattern=r"^[a-zA-Z0-9._-]{1,200}$", description="name of the model")
    train_every_seconds: float = Field(0.0, ge=0, le=86_400 * 366, description="0: on no schedule")
    train_after_labels: int = Field(0, ge=0, le=1_000_000_000, description="new labels; 0: whatever comes")
    train_on_drift: bool = False
    train_events: int = Field(20_000, ge=100, le=5_000_000, description="labelled events held in memory")
    train_timeout_seconds: float = Field(3_600.0, ge=1, le=86_400 * 7)

    # Online learning
    online_task: Literal["", "classification", "regression"] = ""

    # Drift
    drift: bool = False
    drift_threshold: float = Field(0.2, gt=0, le=10, description="population stability index")
    drift_reference_events: int = Field(2_000, ge=100, le=1_000_000)

    # Signatures
    signing_key: Path | None = Field(None, description="private key (PEM, Ed25519) of who publishes")
    trusted_keys: Path | None = Field(None, description="public keys (PEM) of who may publish")

    # Alerts
    alert_threshold: float = Field(0.8, ge=0, le=1)
    alert_critical: float = Field(0.9, ge=0, le=1)
    alert_resolve: float = Field(0.5, ge=0, le=1)
    alert_cooldown_seconds: float = Field(300.0, ge=0, le=86_400 * 366)
    alert_min_support: int = Field(30, ge=1, le=1_000_000)

    # Predictions
    include_normalised: bool = False

    # Web
    web_host: str = "127.0.0.1"
    web_port: int = Field(6066, ge=1, le=65_535)
    web_advertised_host: str = Field("", description="host other workers reach this one's views by")
    token: SecretStr = SecretStr("")

    @field_validator("broker")
    @classmethod
    def _broker_is_a_kafka_url(cls, value: str) -> str:
        for address in re.split("[;,]", value):
            match = re.fullmatch(r"kafka://[^\s:/@]+(?::([0-9]{1,5}))?", address)
            if match is None or not 1 <= int(match[1] or 9092) <= 65_535:
                raise ValueError("must look like kafka://host:port[;kafka://host:port...]")
        return value

    @field_validator("store")
    @classmethod
    def _store_is_known(cls, value: str) -> str:
        if value not in ("rocksdb://", "memory://"):
            raise ValueError("must be rocksdb:// or memory://")
        return value

    @field_validator("evaluation_groups")
    @classmethod
    def _pattern_has_a_group(cls, value: str) -> str:
        try:
            n_groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"must be a regular expression: {error}") from None
        if value and n_groups != 1:
            raise ValueError(f"must have one group, as ^([^-]+)- has, received {n_groups}")
        return value

    @model_validator(mode="after")
    def _state_fits_a_record(self) -> Settings:
        # 40 bytes a feature in a pane, and names of up to 256 characters once.
        n_bytes = self.panes * (8 + 40 * self.max_features) + 1_026 * self.max_features
        if n_bytes > MAX_STATE_BYTES:
            raise ValueError(
                f"panes times max_features must fit a stored state of {MAX_STATE_BYTES} bytes, received "
                f"{self.panes} and {self.max_features}, which take up to {n_bytes}"
            )
        return self

    @model_validator(mode="after")
    def _transactions_end_in_time(self) -> Settings:
        if self.delivery == "exactly_once" and self.checkpoint_seconds > MAX_TRANSACTION_SECONDS:
            raise ValueError(
                f"NOWCAST_CHECKPOINT_SECONDS: at most {MAX_TRANSACTION_SECONDS} with exactly_once, whose "
                f"transactions a broker ends after some minutes, received {self.checkpoint_seconds:g}"
            )
        return self

    @model_validator(mode="after")
    def _topics_differ(self) -> Settings:
        # A worker that read what it writes would never be done.
        names = [value for name, value in self if name.startswith("topic_")]
        names.append(f"{self.group}-statistics-changelog")
        if len(set(names)) < len(names):
            raise ValueError(f"the topics (NOWCAST_TOPIC_*) and the changelog must differ, received {names}")
        return self

    @model_validator(mode="after")
    def _alert_levels_are_ordered(self) -> Settings:
        if not self.alert_resolve <= self.alert_threshold <= self.alert_critical:
            raise ValueError(
                "NOWCAST_ALERT_RESOLVE <= NOWCAST_ALERT_THRESHOLD <= NOWCAST_ALERT_CRITICAL must hold, "
                f"received {self.alert_resolve}, {self.alert_threshold}, {self.alert_critical}"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put arguments over the environment over the TOML file that `NOWCAST_CONFIG` names."""
        file = os.environ.get(PREFIX + "CONFIG")
        return (init_settings, env_settings, *([TomlSource(settings_cls, file)] if file else []))

    @property
    def pane_seconds(self) -> float:
        """Length of one pane in seconds."""
        return self.window_seconds / self.panes

    @property
    def transaction_timeout_seconds(self) -> float:
        """Time after which the broker aborts the transaction of a worker that went silent."""
        return 60.0 + 2 * self.checkpoint_seconds

    @property
    def allowed_future_seconds(self) -> float:
        """How far an event may lie ahead: never so far that one event takes what a window knows."""
        return min(self.future_seconds, self.window_seconds / 2)

    @property
    def decode_limits(self) -> DecodeLimits:
        """Bounds that an event has to keep, whoever reads it."""
        return DecodeLimits(
            max_event_bytes=self.max_event_bytes,
            max_features=self.max_features,
            max_feature_names=self.max_features,
            future_seconds=self.allowed_future_seconds,
        )

    @property
    def max_dead_letter_bytes(self) -> int:
        """Bytes of key, value and own headers of a dead letter; the topic is made to take them."""
        return self.max_event_bytes + 1_048_588

    @property
    def bootstrap_servers(self) -> list[str]:
        """Broker addresses as `host:port`, the form the Kafka client takes."""
        hosts = self.broker.replace("kafka://", "").replace(",", ";").split(";")
        return [host if ":" in host else f"{host}:9092" for host in hosts if host]

    @property
    def advertised_host(self) -> str:
        """Host by which other workers reach this worker's views."""
        if self.web_advertised_host:
            return self.web_advertised_host
        return socket.gethostname() if self.web_host in ("0.0.0.0", "::") else self.web_host


def load_settings(**overrides: Any) -> Settings:
    """Read and validate the settings.

    Raises
    ------
    SettingsError
        One line that names each wrong setting, the bound it breaks and the value received.
    """
    config = os.environ.get(PREFIX + "CONFIG")
    if config and not Path(config).is_file():
        raise SettingsError(f"NOWCAST_CONFIG: no such file: {config!r}")
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith(PREFIX)
        and name != PREFIX + "CONFIG"
        and name.removeprefix(PREFIX).lower() not in Settings.model_fields
    )
    if unknown:
        raise SettingsError(f"no such setting: {', '.join(unknown)} (see docs/settings.md)")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("; ".join(_line(item) for item in error.errors())) from None
    except ValueError as error:  # a TOML file that does not parse
        raise SettingsError(f"NOWCAST_CONFIG: {config!r}: {error}") from None


def _line(item: Any) -> str:
    where = os.environ.get(PREFIX + "CONFIG")
    if where and item["type"] == "extra_forbidden":  # of the file: the environment was looked at before
        return f"NOWCAST_CONFIG: {where!r}: no such setting: {item['loc'][0]!r} (see docs/settings.md)"
    name = PREFIX + str(item["loc"][0]).upper().removeprefix(PREFIX) if item["loc"] else "settings"
    message = item["msg"].removeprefix("Value error, ")
    received = "" if "received" in message else f", received {item['input']!r}"
    return f"{name}: {message}{received}"
