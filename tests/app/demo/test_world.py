from __future__ import annotations

from itertools import islice

from app.demo.world import World
from app.sources import SourceOptions, open_source

OPTIONS = SourceOptions(entities=5, seed=2)


def test_until_it_changes_the_world_is_that_of_the_source() -> None:
    events = list(islice(open_source("payments", OPTIONS), 9_000))
    assert list(islice(World("payments", OPTIONS), 9_000)) == events


def test_the_next_event_after_the_change_shows_it() -> None:
    world = World("payments", OPTIONS)
    events = iter(world)
    seen = list(islice(events, 5_000))
    world.has_changed = True
    seen += list(islice(events, 5_000))
    expected = SourceOptions(entities=5, seed=2, change_after=5_000)
    assert seen == list(islice(open_source("payments", expected), 10_000))
