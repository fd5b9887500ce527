"""The command line: options, or the environment in their place as `make demo` has them; errors as a line."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys

from aiokafka.errors import KafkaError

from app.demo.run import DemoOptions, run_demo
from app.demo.scenarios import SCENARIOS, default_scenario, find_scenario
from app.demo.worker import WorkerError
from app.embedded import EmbeddedBrokerError
from app.settings import SettingsError
from app.sources import SourceError
from app.topics import StartError


def read_options(arguments: list[str]) -> DemoOptions:
    """Read the options; SECONDS, SCENARIO and RATE of the environment are their defaults."""
    parser = argparse.ArgumentParser(prog="python -m app.demo", description="A worker on a real stream")
    parser.add_argument("--seconds", default=os.environ.get("SECONDS") or "0", help="0: until Ctrl-C")
    parser.add_argument(
        "--scenario", default=os.environ.get("SCENARIO") or default_scenario(), help=", ".join(SCENARIOS)
    )
    parser.add_argument("--rate", default=os.environ.get("RATE") or "0", help="events/s; 0: the scenario's")
    chosen = parser.parse_args(arguments)
    return DemoOptions(
        find_scenario(chosen.scenario),
        seconds=_not_negative("SECONDS", chosen.seconds),
        rate=_not_negative("RATE", chosen.rate),
    )


def _not_negative(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number from 0, received {text!r}")
    return value


def main(arguments: list[str]) -> int:
    """Run the demo; what goes wrong is said without a traceback."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the broker's end is no news here
    try:
        return asyncio.run(run_demo(read_options(arguments)))
    except (EmbeddedBrokerError, WorkerError, StartError, SourceError, SettingsError, ValueError) as error:
        print(f"nowcast: {error}", file=sys.stderr)
    except KafkaError as error:
        print(f"nowcast: Kafka: {str(error) or type(error).__name__}", file=sys.stderr)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("nowcast: stopped", file=sys.stderr)
        return 130
    return 1
