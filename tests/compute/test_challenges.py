from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from compute.challenges import Turn, number_challengers

CHANGES = ["challenge", "promote", "rollback", "retire", "replace"]


def turns(*changes: str, name: str = "pump") -> list[Turn]:
    """Turns in order, each "VERSION CHANGE"."""
    return [Turn((float(i), ""), name, *change.split()) for i, change in enumerate(changes)]


def numbered(*changes: str, champion: str = "A") -> dict[str, int]:
    return number_challengers(turns(*changes), champion)


def test_whoever_challenges_a_champion_is_numbered_in_that_order():
    assert numbered("A promote", "b challenge", "c challenge") == {"b": 1, "c": 2}


def test_the_newest_are_the_first_of_those_that_a_promotion_finds():
    found = numbered("b challenge", "c challenge", "d challenge", "c retire", "A promote", "e challenge")
    assert found == {"d": 1, "b": 2, "e": 3}


def test_a_former_champion_is_no_challenger_unless_it_challenges_again():
    changes = ["b promote", "A challenge", "b replace", "A promote"]
    assert numbered(*changes) == {}
    assert numbered(*changes, "b challenge") == {"b": 1}


def test_a_number_stays_when_its_challenger_is_retired_and_comes_back():
    changes = ["A promote", "b challenge", "b retire", "c challenge"]
    assert numbered(*changes) == numbered(*changes, "b challenge") == {"b": 1, "c": 2}


def test_a_champion_that_comes_back_goes_on_where_it_was():
    reign = ["A promote", "b challenge", "A replace", "b promote", "c challenge", "A rollback"]
    assert numbered(*reign, "d challenge") == {"b": 1, "c": 2, "d": 3}
    assert numbered(*reign, "d challenge", champion="b") == {"c": 1, "d": 2}


def test_of_a_champion_that_no_decision_brought_all_challengers_count():
    changes = ["b challenge", "c challenge", "b retire"]
    assert numbered(*changes) == {"b": 1, "c": 2}
    # What is replaced had served, though nobody promoted it; it goes on where it was as well.
    assert numbered(*changes, "A replace", "c promote", "A rollback", "d challenge") == {
        "b": 1,
        "c": 2,
        "d": 3,
    }


def test_where_one_name_serves_the_others_have_no_number():
    both = [*turns("A promote", "b challenge"), Turn((9.0, ""), "fan", "c", "challenge")]
    assert number_challengers(both, "A", "pump") == {"b": 1}
    assert number_challengers(both, "A") == {"b": 1, "c": 2}


histories = st.lists(st.tuples(st.sampled_from("bcdeA"), st.sampled_from(CHANGES)), max_size=25)


@given(histories, histories, st.randoms(use_true_random=False))
def test_numbers_once_given_stay_and_the_order_of_reading_is_none(before, after, chance: random.Random):
    known = [f"{version} {change}" for version, change in before]
    later = [f"{version} {change}" for version, change in after]
    first = numbered(*known, "A promote")
    found = turns(*known, "A promote", *later)
    chance.shuffle(found)
    numbers = number_challengers(found, "A")
    assert {version: numbers[version] for version in first} == first
    assert sorted(numbers.values()) == list(range(1, len(numbers) + 1))
    assert "A" not in numbers
    assert set(numbers) >= {version for version, change in after if change == "challenge" and version != "A"}
