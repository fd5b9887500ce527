"""The rules one by one; that every reader comes to the same is tested in tests/tables/test_model_order.py."""

from __future__ import annotations

from typing import Any

import pytest

from compute.decisions import Decision, decision_key
from compute.ledger import Claim, Ledger

V1, V2, V3, V4 = (digit * 16 for digit in "1234")


class Topic:
    """Fills a ledger as the topic's records would."""

    def __init__(self, by_decision: bool = False) -> None:
        self.ledger = Ledger(by_decision)
        self.n = 0

    def _next(self) -> int:
        self.n += 1
        return self.n - 1

    def keep(self, version: str, name: str = "pump") -> None:
        self.ledger.keep(self._next(), name, version)

    def put(self, version: str, name: str = "pump") -> None:
        self.ledger.publish(self._next(), name, version)

    def decide(
        self, action: Any, version: str, name: str = "pump", at: float | None = None, **more: Any
    ) -> None:
        when = self.n + 1_000.0 if at is None else at
        decision = Decision(action=action, model=name, version=version, at=when, **more)
        self.ledger.decide(self._next(), decision_key(decision, "0a1b2c"), decision)

    def promote(self, version: str, previous: str = "", name: str = "pump", action: str = "promote") -> None:
        if version not in self.ledger.versions(name):
            self.keep(version, name)
        self.put(version, name)
        self.decide(action, version, name, previous=previous)

    def challenge(self, version: str, name: str = "pump") -> None:
        self.keep(version, name)
        self.decide("challenge", version, name)

    def first(self, name: str = "pump") -> Claim | None:
        return next(self.ledger.claims(name), None)


@pytest.fixture(params=[False, True], ids=["by offset", "by decision"])
def topic(request: pytest.FixtureRequest) -> Topic:
    return Topic(request.param)


def test_nothing_is_known_of_an_empty_topic(topic: Topic) -> None:
    ledger = topic.ledger
    assert (ledger.names(), list(ledger.claims("pump")), ledger.challengers()) == ([], [], [])
    assert (ledger.split_against(None), ledger.way_back("pump", ""), ledger.owner(V1)) == (None, [], "")
    assert ledger.standing(V1) is None
    assert ledger.sources("pump", V1) == ()


def test_the_promotion_made_last_comes_first_and_those_before_behind_it(topic: Topic) -> None:
    for version, previous in ((V1, ""), (V2, V1), (V3, V2)):
        topic.promote(version, previous)
    decided = [claim.version for claim in topic.ledger.claims("pump") if claim.is_decided]
    assert decided == [V3, V2, V1]


def test_a_record_by_hand_counts_by_offset_alone() -> None:
    for by_decision in (False, True):
        topic = Topic(by_decision)
        topic.promote(V1)
        topic.put(V2)
        first = topic.first()
        assert first is not None
        assert (first.version, first.is_decided) == ((V1, True) if by_decision else (V2, False))


def test_a_challenger_is_one_until_it_is_decided_otherwise(topic: Topic) -> None:
    for version in (V1, V2, V3):
        topic.challenge(version)
    assert topic.ledger.challengers() == [("pump", V3), ("pump", V2), ("pump", V1)]
    topic.promote(V2)
    assert topic.ledger.challengers() == [("pump", V3), ("pump", V1)]
    topic.decide("retire", V3)
    assert topic.ledger.challengers() == [("pump", V1)]
    topic.decide("split", V1, share=0.5)
    assert topic.ledger.challengers() == [("pump", V1)]
    topic.challenge(V3)
    assert topic.ledger.challengers() == [("pump", V3), ("pump", V1)]


def test_who_served_before_a_promotion_challenges_no_more(topic: Topic) -> None:
    topic.challenge(V1)
    topic.promote(V2, previous=V1)
    assert topic.ledger.challengers() == []


def test_a_split_holds_until_the_next_split_or_another_champion(topic: Topic) -> None:
    topic.promote(V1)
    topic.challenge(V2)
    topic.decide("split", V2, share=0.25)
    assert topic.ledger.split_against(topic.first()) == (V2, 0.25)
    topic.decide("split", V2, share=0.5)
    assert topic.ledger.split_against(topic.first()) == (V2, 0.5)
    topic.decide("split", V2, share=0.0)
    assert topic.ledger.split_against(topic.first()) is None
    topic.decide("split", V2, share=0.5)
    topic.promote(V3, V1)
    assert topic.ledger.split_against(topic.first()) is None


def test_a_split_against_the_built_in_detector_holds(topic: Topic) -> None:
    topic.challenge(V2)
    topic.decide("split", V2, share=0.25)
    assert topic.ledger.split_against(None) == (V2, 0.25)


def test_an_older_decision_that_comes_later_counts_by_offset_and_not_by_decision() -> None:
    for by_decision in (False, True):
        topic = Topic(by_decision)
        topic.promote(V1)
        topic.promote(V2, V1)
        topic.challenge(V3)
        topic.decide("split", V3, share=0.5)
        topic.decide("promote", V1, at=1.0)
        topic.decide("retire", V3, at=2.0)
        topic.decide("split", V3, share=0.0, at=3.0)
        first = topic.first()
        assert first is not None
        assert first.version == (V2 if by_decision else V1)
        assert topic.ledger.challengers() == ([("pump", V3)] if by_decision else [])
        assert topic.ledger.split_against(first) == ((V3, 0.5) if by_decision else None)


def test_a_decision_that_stands_there_twice_counts_once(topic: Topic) -> None:
    topic.promote(V1)
    topic.decide("promote", V2, at=5_000.0, previous=V1)
    topic.decide("promote", V2, at=5_000.0, previous=V1)
    assert [claim.version for claim in topic.ledger.claims("pump") if claim.is_decided] == [V2, V1]


def test_the_latest_time_is_known_whatever_came_later(topic: Topic) -> None:
    topic.decide("retire", V1, at=7.0)
    topic.decide("retire", V2, at=3.0)
    assert topic.ledger.last_at == 7.0


def test_an_artefact_stands_under_its_version_and_the_champion_under_its_name_too(topic: Topic) -> None:
    topic.keep(V1)
    topic.put(V1)
    assert topic.ledger.sources("pump", V1) == (1, 0)
    topic.put(V2)
    assert topic.ledger.sources("pump", V1) == (0,)
    assert topic.ledger.sources("pump", V2) == (2,)
    topic.keep(V1)
    assert topic.ledger.sources("pump", V1) == (3,)
    topic.ledger.remove("pump", V1)
    assert topic.ledger.sources("pump", V1) == ()
    assert topic.ledger.owner(V1) == ""
    assert topic.ledger.owner(V2) == "pump"


def test_a_name_without_a_record_was_removed_unless_decisions_alone_count() -> None:
    for by_decision in (False, True):
        topic = Topic(by_decision)
        topic.promote(V1)
        topic.ledger.remove("pump")
        assert (topic.first() is None) == (not by_decision)


def test_the_way_back_is_what_was_champion_before_the_present_one(topic: Topic) -> None:
    topic.promote(V1)
    topic.promote(V2, V1)
    topic.promote(V3, V2)
    assert topic.ledger.way_back("pump", V3) == [V2, V1]
    topic.promote(V2, V3, action="rollback")
    assert topic.ledger.way_back("pump", V2) == [V1]
    topic.promote(V1, V2, action="rollback")
    assert topic.ledger.way_back("pump", V1) == []
    topic.promote(V4, V1)
    assert topic.ledger.way_back("pump", V4) == [V1]


def test_the_way_back_leads_past_what_was_retired(topic: Topic) -> None:
    topic.promote(V1)
    topic.promote(V2, V1)
    topic.promote(V3, V2)
    topic.decide("retire", V2)
    assert topic.ledger.way_back("pump", V3) == [V1]


def test_the_way_back_knows_who_served_without_a_decision(topic: Topic) -> None:
    topic.promote(V2, previous=V1)
    assert topic.ledger.way_back("pump", V2) == [V1]
    assert topic.ledger.way_back("pump", V3) == [V2, V1]


def test_a_version_promoted_again_is_not_on_its_own_way_back(topic: Topic) -> None:
    topic.promote(V1)
    topic.promote(V2, V1)
    topic.promote(V1, V2)
    assert topic.ledger.way_back("pump", V1) == [V2]
    topic.promote(V1, V1)
    assert topic.ledger.way_back("pump", V1) == [V2]


def test_models_do_not_mix(topic: Topic) -> None:
    topic.promote(V1, name="pump")
    topic.promote(V2, name="valve")
    assert topic.ledger.names() == ["pump", "valve"]
    first = topic.first("pump")
    assert first is not None
    assert first.version == V1
    assert topic.ledger.way_back("valve", V2) == []
