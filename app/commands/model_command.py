"""What the commands of the group `models` share: how they fail, who decides, and reading the topic.

Owns that a person gets one line, whatever is wrong.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar, NoReturn

from faust.cli.base import option

from app.commands.one_shot import Subcommand
from app.settings import Settings
from app.topics import StartError
from compute.artefact import ArtefactError
from tables.keys import KeyFileError
from tables.model_topic import TopicError
from tables.models import ModelsTable

CATCH_UP_SECONDS = 60.0
LOOK_SECONDS = 1.0
"""Between looks at whether there is trouble; what is there at two of them ends the wait."""

AUTHOR_OPTIONS = [
    option("--by", default="", help="Who decides; default: user@host."),
    option("--reason", default="", help="Why; stands in the audit trail."),
]


class ModelCommand(Subcommand):
    """Base of the commands in the group `models`."""

    abstract: ClassVar[bool] = True

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command; an artefact that cannot serve ends it with one line."""
        try:
            super().__call__(*args, **kwargs)
        except (ArtefactError, KeyFileError, TopicError, TimeoutError) as error:
            self._fail(str(error))


async def read_table(settings: Settings) -> ModelsTable:
    """Return what is published, as a worker would see it; the table reads no further.

    Raises
    ------
    StartError
        The topic cannot be read.
    """
    logging.getLogger("tables").setLevel(logging.CRITICAL)  # refusals and troubles are told by the commands
    table = ModelsTable(settings)
    await table.start()
    reading = asyncio.create_task(table.catch_up(timeout=CATCH_UP_SECONDS))
    try:
        had_problem = False
        while not reading.done():
            await asyncio.wait([reading], timeout=LOOK_SECONDS)
            if (
                had_problem and table.problem and not reading.done()
            ):  # a person waits: no longer than for this
                raise StartError(table.why_behind(CATCH_UP_SECONDS))
            had_problem = bool(table.problem)
        await reading
    except TimeoutError as error:
        raise StartError(str(error)) from None
    finally:
        reading.cancel()
        await table.stop()
    return table
