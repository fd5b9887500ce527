"""What a decision about events becomes: predictions, alerts, and the memory that views look into.

Owns how decisions are packed for the topics. It decides nothing and keeps no state but the last alerts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import msgspec
import numpy as np

from agents.decide import Decision, Rows
from agents.lanes import Lanes
from agents.outbox import Outbox
from agents.sent_alerts import GROUP_HEADER, SentAlerts
from compute.alert_messages import encode_alert
from compute.alerts import evaluate_alerts
from compute.predictions import encode_predictions, format_event_ids
from tables.partition import Partition

N_RECENT_ALERTS = 1_000


class Answers:
    """Packs answers.

    Parameters
    ----------
    settings : app.settings.Settings
        Of these: topic_events, topic_predictions, topic_alerts, include_normalised.
    outbox : Outbox or Lanes
    sent : SentAlerts
        Alerts that are not to be sent again.
    """

    def __init__(self, settings: Any, outbox: Outbox | Lanes, sent: SentAlerts) -> None:
        self._settings = settings
        self._outbox = outbox
        self._sent = sent
        self._recent: deque[bytes] = deque(maxlen=N_RECENT_ALERTS)

    def pack(self, partition: Partition, rows: Rows, decision: Decision) -> list[tuple[str, str]]:
        """Pack what one version decided; rows at fault get no prediction.

        Returns
        -------
        list of (str, str)
            State and severity of the alerts.
        """
        changes = self._pack_alerts(partition, rows, decision)
        if decision.faults:
            decided = np.setdiff1d(np.arange(len(rows.keys)), list(decision.faults))
            rows, decision = rows.take(decided), decision.take(decided)
        self._pack_predictions(partition, rows, decision)
        return changes

    def _pack_predictions(self, partition: Partition, rows: Rows, decision: Decision) -> None:
        partition.recent.add(
            rows.slots,
            rows.offsets,
            rows.timestamps,
            decision.scores,
            decision.predictions,
            rows.warming_up,
            (decision.model, decision.version),
        )
        values = encode_predictions(
            topic=self._settings.topic_events,
            partition=partition.number,
            offsets=rows.offsets,
            keys=rows.keys,
            timestamps=rows.timestamps,
            scores=decision.scores,
            predictions=decision.predictions,
            warming_up=rows.warming_up,
            model=decision.model,
            version=decision.version,
            probabilities=decision.probabilities,
            class_names=decision.class_names,
            normalised=rows.z if self._settings.include_normalised else None,
            feature_names=partition.columns.features,
        )
        self._outbox.pack(self._settings.topic_predictions, partition.number, rows.keys, values)

    def _pack_alerts(self, partition: Partition, rows: Rows, decision: Decision) -> list[tuple[str, str]]:
        if decision.rule is None:
            partition.alerts.clear(rows.slots[rows.forgotten])
            return []
        scores = decision.scores
        if decision.faults:  # these raise and resolve nothing, but their entities have spoken
            scores = scores.copy()
            scores[list(decision.faults)] = np.nan
        transitions = evaluate_alerts(
            partition.alerts,
            rows.slots,
            scores,
            rows.timestamps,
            rows.n_events.astype(np.int64),
            rows.forgotten,
            decision.rule,
        )
        values = []
        for transition in transitions:
            row = transition.position
            values.append(
                encode_alert(
                    transition,
                    rule=decision.rule,
                    event_id=self.event_id(partition, int(rows.offsets[row])),
                    key=rows.keys[row],
                    timestamp=rows.timestamps[row],
                    score=decision.scores[row],
                    feature_names=partition.columns.features,
                    values=rows.matrix[row],
                    means=rows.mean[row],
                    stddevs=rows.stddev[row],
                    z=rows.z[row],
                    model=decision.model,
                    version=decision.version,
                )
            )
        self.pack_alerts(partition, [rows.keys[transition.position] for transition in transitions], values)
        return [(transition.state, transition.severity) for transition in transitions]

    def pack_alerts(self, partition: Partition, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Pack alerts that are encoded, but for those that were sent before a crash."""
        keys, values = self._sent.leave_out(partition.number, keys, values)
        headers = repeat([(GROUP_HEADER, self._settings.group.encode())])
        self._outbox.pack(self._settings.topic_alerts, partition.number, keys, values, headers)
        self._recent.extend(values)

    def event_id(self, partition: Partition, offset: int) -> str:
        """Return the id that the prediction for an event has."""
        return format_event_ids(self._settings.topic_events, partition.number, [offset])[0]

    def recent_alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that this worker sent last, newest first."""
        return [msgspec.json.decode(value) for value in reversed(self._recent)]
