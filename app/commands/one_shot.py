"""Commands that do one thing and end: run without a worker, fail with one line.

Faust runs a command inside a worker of its own, which takes over signals and prints tracebacks; these
need neither. Use it as `OneShot.from_handler(*options)(function)`; `Subcommand` for those of a group.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, ClassVar, NoReturn

import click
from aiokafka.errors import KafkaConnectionError, KafkaError
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
        except KafkaConnectionError:
            self._fail(f"cannot reach Kafka at {self.settings.broker} (NOWCAST_BROKER)")
        except KafkaError as error:
            self._fail(f"Kafka at {self.settings.broker}: {str(error) or type(error).__name__}")
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        raise SystemExit(0)

    @staticmethod
    def _fail(message: str) -> NoReturn:
        print(f"nowcast: {message}", file=sys.stderr)
        raise SystemExit(1)


class Subcommand(OneShot):
    """Base of the commands in a group; it registers none of them at the top."""

    abstract: ClassVar[bool] = True

    @classmethod
    def add_to(
        cls, group: click.Group, name: str, function: Callable[..., Any], options: Sequence[Any] = ()
    ) -> None:
        """Make a command of a function, whose docstring is its help, and add it to a group."""
        parts = {"run": function, "options": list(options), "__doc__": function.__doc__}
        command: Any = type(name, (cls,), parts)
        group.add_command(command._click)

    @classmethod
    def as_click_command(cls) -> Callable[..., Any]:
        """Return the command for a group to take."""

        def run(context: click.Context, **options: Any) -> None:
            cls(context, **options)()

        command: Any = click.pass_context(run)
        for add in reversed(cls.options or []):
            command = add(command)
        return click.command(name=cls.__name__, help=cls.__doc__)(command)


def stop_on_signals() -> asyncio.Event:
    """Return an event that Ctrl-C and SIGTERM set instead of ending the command."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


def iso_time(seconds: float | None) -> str:
    """Return a time as people read it, empty if there is none.

    Examples
    --------
    >>> iso_time(1700000000.25), iso_time(None)
    ('2023-11-14T22:13:20Z', '')
    """
    if seconds is None:
        return ""
    try:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):  # producers choose the times of records
        return f"{seconds:g} s"
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
