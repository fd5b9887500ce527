"""The assignor: Faust's, for workers that come back under another address.

A static member (`NOWCAST_INSTANCE_ID`) that is started again within its session gets its partitions back
without a rebalance, with the address it had before. Faust takes that for a fault and stops working.
"""

from __future__ import annotations

import logging
from typing import Any

from faust.assignor import PartitionAssignor
from faust.assignor.client_assignment import ClientMetadata

log = logging.getLogger(__name__)


class Assignor(PartitionAssignor):
    """Takes an assignment to its former address, and lets the others know the new one."""

    def on_assignment(self, assignment: Any) -> None:
        """Take an assignment."""
        metadata: Any = ClientMetadata.loads(self._decompress(assignment.user_data))
        own: Any = str(self._url)
        if metadata.url != own:
            log.info("the partitions come back from %s to %s; the group is told", metadata.url, own)
            metadata.url = own
            assignment = type(assignment)(
                assignment.version, assignment.assignment, self._compress(metadata.dumps())
            )
            app: Any = self.app
            app.consumer.rejoin()
        super().on_assignment(assignment)
