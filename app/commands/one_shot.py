"""Commands that do one thing and end: run without a worker, fail with one line.

Faust runs a command inside a worker of its own, which takes over signals and prints tracebacks; these
need neither. Use it as `OneShot.from_handler(*options)(function)`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any, ClassVar, NoReturn

from aiokafka.errors import KafkaError
from faust.cli.base import AppCommand

from app.settings import Settings, SettingsError
from app.sources import SourceError
from app.topics import StartError


class OneShot(AppCommand):
    """Base of Nowcast's commands."""

    abstract: ClassVar[bool] = True

    @property
    def settings(self) -> Settings:
        """Settings of the application that `-A` named."""
        settings: Settings = self.app.nowcast_settings  # type: ignore[attr-defined]
        return settings

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command; exit code 0, or 1 after one line about what went wrong."""
        # Errors are told by the command itself; the client would tell each of its attempts as well.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        try:
            asyncio.run(self.run(*self.args, *args, **{**self.kwargs, **kwargs}))
        except (SourceError, StartError, SettingsError) as error:
            self._fail(str(error))
        except KafkaError as error:
            self._fail(f"Kafka at {self.settings.broker}: {str(error) or type(error).__name__}")
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        raise SystemExit(0)

    @staticmethod
    def _fail(message: str) -> NoReturn:
        print(f"nowcast: {message}", file=sys.stderr)
        raise SystemExit(1)
