"""The application factory: settings in, a Faust application with agents, tables and views out.

Owns the wiring and the settings of Faust that differ from its defaults, each with its reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import faust
from faust.types import TP
from faust.web.drivers import aiohttp as web_driver

from agents.checkpoint import Checkpoint
from agents.label import Labeller
from agents.label_backlog import labels_to_leave
from agents.lanes import Lanes
from agents.metrics import Metrics
from agents.outbox import MAX_BATCH_BYTES, Outbox
from agents.score import Scorer
from agents.sent_alerts import SentAlerts
from app import transport
from app.commands import dead_letters as dead_letters_command
from app.commands import models as models_command
from app.commands import replay as replay_command
from app.commands import train as train_command
from app.record_batch import RecordBatchSchema
from app.settings import MAX_STATE_BYTES, Settings
from app.supervision.supervisor import Supervisor
from app.topics import MESSAGE_OVERHEAD_BYTES, changelog_topic
from app.web import views
from tables import fetched_records
from tables.models import ModelsTable
from tables.recovery import TableManager
from tables.statistics import StatisticsTable

ISOLATION_LEVEL = "read_committed"


class Web(web_driver.Web):
    """Faust's web server without its index page, which would take `/`."""

    production_blueprints = ()


class App(faust.App):
    """Faust's application, with Nowcast's parts in named attributes instead of globals."""

    nowcast_settings: Settings
    batch_options: transport.BatchOptions
    outbox: Outbox | Lanes
    checkpoint: Checkpoint
    statistics: StatisticsTable
    sent_alerts: SentAlerts
    models: ModelsTable
    metrics: Metrics
    scorer: Scorer
    labeller: Labeller
    supervision: Supervisor

    async def on_start(self) -> None:
        """Begin to read models with everything else; the agent waits for them."""
        await super().on_start()
        await self.models.start()
        await self.supervision.start()

    async def on_stop(self) -> None:
        """Stop reading models once nothing is scored any more."""
        await self.supervision.stop()
        await super().on_stop()
        # The last checkpoint is taken, but batches wait in queues. What came of any since is in none, and the
        # one that Faust takes once more would find neither producers nor a store.
        self.scorer.suspend()
        await self.checkpoint.forget(self, ())
        await self.models.stop()

    def _new_web(self) -> Any:
        return Web(self)


def create_app(settings: Settings) -> App:
    """Build the application; reads nothing but its argument, starts nothing."""
    transport.register()
    fetched_records.install()
    app = App(settings.group, **faust_settings(settings))
    app.nowcast_settings = settings

    app.outbox = _new_outbox(app)
    app.statistics = StatisticsTable(app, settings)
    app.tables.add(app.statistics)
    app.sent_alerts = SentAlerts(settings, app.statistics.stored_about)
    app.models = ModelsTable(settings)
    app.metrics = Metrics()
    app.scorer = Scorer(
        *(settings, app.statistics, app.models, app.outbox, app.metrics),
        session=lambda: (app.rebalancing_count, app.should_stop),
        on_progress=lambda: app.consumer.note_progress(),  # type: ignore[attr-defined]
        labels_end=lambda number: app.consumer.offset_to_reach(  # type: ignore[attr-defined]
            TP(settings.topic_labels, number)
        ),
        sent_alerts=app.sent_alerts,
    )
    app.labeller = Labeller(settings, app.statistics, app.outbox, app.scorer)
    app.checkpoint = Checkpoint(
        app.scorer,
        app.statistics,
        app.outbox,
        app.metrics,
        rejoin=lambda: app.consumer.rejoin(),  # type: ignore[attr-defined]
    )
    app.batch_options = transport.BatchOptions(
        topics=frozenset([settings.topic_events, settings.topic_labels]),
        max_events=settings.batch_events,
        max_bytes=settings.batch_bytes,
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
        isolation_level=ISOLATION_LEVEL,
        checkpoint=app.checkpoint.take,
        to_leave=lambda: labels_to_leave(
            settings,
            app.statistics,
            app.scorer.next_offsets,
            lambda number: app.consumer.offset_to_reach(  # type: ignore[attr-defined]
                TP(settings.topic_events, number)
            ),
        ),
    )
    app.on_partitions_revoked.connect(app.checkpoint.forget, weak=False)  # type: ignore[arg-type]
    app.supervision = Supervisor(app)
    _register_agents(app)
    views.register(app)
    replay_command.register(app)
    train_command.register(app)
    models_command.register(app)
    dead_letters_command.register(app)
    return app


def _new_outbox(app: Any) -> Outbox | Lanes:
    settings = app.nowcast_settings

    def fail(error: BaseException) -> None:
        # The worker stops; what was not committed is read again when it is started anew.
        app.add_future(app.crash(error))

    if settings.delivery == "at_least_once":
        return Outbox(
            producer=lambda: app.producer._producer,
            on_failure=fail,
            holds_lease=lambda: app.consumer.holds_lease(),
        )
    return Lanes(
        topic=settings.topic_events,
        group=settings.group,
        written=[
            settings.topic_predictions,
            settings.topic_alerts,
            settings.topic_dead_letters,
            settings.topic_labels,
            changelog_topic(settings),
        ],
        new_producer=lambda name: app.producer.new_transactional(name, settings.transaction_timeout_seconds),
        on_failure=fail,
        on_cut_off=lambda error: app.checkpoint.cut_off(error),
    )


def _register_agents(app: App) -> None:
    settings = app.nowcast_settings
    _register_agent(app, "score", settings.topic_events, lambda batch: app.scorer.score(batch))
    _register_agent(app, "label", settings.topic_labels, lambda batch: app.labeller.label(batch))


def _register_agent(app: App, name: str, topic: str, process: Callable[[Any], Awaitable[None]]) -> None:
    channel = app.topic(topic, schema=RecordBatchSchema(), maxsize=transport.QUEUED_BATCHES)

    @app.agent(channel, name=name)
    async def agent(stream: Any) -> None:
        # Every published model is held before the first event is scored.
        await app.models.catch_up(timeout=app.conf.broker_request_timeout)
        async for batch in stream:
            if app.crashed:  # Faust starts an agent anew even then, and its queue still holds batches
                raise RuntimeError("the application has crashed, nothing more is processed")
            try:
                await process(batch)
            except Exception as error:
                # Faust would log, skip the batch and go on; the events would be lost. It also takes a last
                # checkpoint on its way out, which must not hold half of this batch.
                app.scorer.next_offsets.clear()
                app.statistics.forget()
                await app.crash(error)
                raise


def faust_settings(settings: Settings) -> dict[str, Any]:
    """Faust's settings for this application."""
    session_timeout = settings.session_timeout_seconds
    return {
        "broker": settings.broker.replace("kafka://", f"{transport.SCHEME}://"),
        "origin": "app",
        "autodiscover": False,
        "Worker": "app.worker:Worker",
        "store": settings.store,
        "datadir": settings.data_dir,
        "topic_partitions": settings.partitions,
        "topic_replication_factor": settings.replication,
        # The leader topic elects a worker for timers that run once; Nowcast has none.
        "topic_disable_leader": True,
        "TableManager": TableManager,
        "PartitionAssignor": "app.assignor:Assignor",
        "table_standby_replicas": settings.standby_replicas,
        # The batch in hand is finished before a rebalance, and then committed.
        "stream_wait_empty": True,
        "stream_recovery_delay": 0.0,
        "broker_commit_interval": settings.checkpoint_seconds,
        "broker_session_timeout": session_timeout,
        # Members learn of a rebalance by a heartbeat, and all wait for the last to learn.
        "broker_heartbeat_interval": min(session_timeout / 10, 1.0),
        # A rebalance waits for the call of the model that is under way.
        "broker_rebalance_timeout": max(session_timeout, settings.model_timeout_seconds + 10.0),
        "broker_max_poll_interval": max(5 * session_timeout, settings.model_timeout_seconds + 30.0),
        "broker_max_poll_records": settings.batch_events,
        "consumer_auto_offset_reset": settings.auto_offset_reset,
        "consumer_group_instance_id": settings.instance_id or None,
        "consumer_max_fetch_size": 2 * 1024 * 1024,
        "producer_max_batch_size": MAX_BATCH_BYTES,
        "producer_max_request_size": MAX_STATE_BYTES + MESSAGE_OVERHEAD_BYTES,
        "web_bind": settings.web_host,
        "web_host": settings.advertised_host,
        "web_port": settings.web_port,
        "canonical_url": f"http://{settings.advertised_host}:{settings.web_port}",
        # Faust's own pages show tables, routes and statistics to anybody.
        "web_stats_enabled": False,
        "web_graph_enabled": False,
        "web_router_enabled": False,
        "web_tables_enabled": False,
        "web_metrics_enabled": False,
    }
