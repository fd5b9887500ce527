"""Which evaluations a partition keeps: of the groups that are asked for, of the versions labelled last."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from app.settings import Settings
from compute.answered import Answered, VersionAnswers
from compute.evaluation import Evaluation
from compute.own_values import with_header
from tables.kept import KEPT, KIND
from tables.learning import MAX_GROUPS, MAX_VERSIONS, OTHER_GROUPS, Evaluated, Learning
from tables.reserved import PARTITION_KEY
from tests.agents.recording import DictStore

CLASSES = ("0", "1")


class Owner:
    """A partition that learns, starts anew and writes checkpoints."""

    def __init__(self, **settings: Any) -> None:
        self.store = DictStore()
        self.seen = 0
        self.start(**settings)

    def start(self, **settings: Any) -> None:
        self.learning = Learning(0, self.store, Settings(partitions=1, **settings))

    def label(self, keys: list[bytes], versions: list[str], time: float = 0.0) -> None:
        n = len(keys)
        scores = np.linspace(0.1, 0.9, n)
        answers = tuple(
            VersionAnswers(
                model="pump",
                version=version,
                role="challenger",
                task="classification",
                classes=CLASSES,
                positive=1,
                scores=scores,
                predictions=(scores > 0.5).astype(np.int32),
            )
            for version in versions
        )
        offsets = self.seen + np.arange(n)
        times = np.full(n, time)
        answered = Answered(offsets, times, times, np.zeros(n, np.uint32), answers)
        self.learning.learn(answered, [i % 2 for i in range(n)], keys)
        self.seen += n

    def checkpoint(self) -> None:
        self.seen += 1
        items = self.learning.take_changes(self.seen)
        self.store.write(0, [*items, (PARTITION_KEY, b"0 %d 300.0 0" % self.seen)], 0)

    def kept(self) -> list[list[str]]:
        return [json.loads(key[len(KEPT) + 1 :]) for key in self.store.values if key.startswith(KEPT)]

    def groups(self) -> set[str]:
        return {about.group for about in self.learning.evaluations}

    def versions(self) -> list[str]:
        return list(dict.fromkeys(about.version for about in self.learning.evaluations))


@pytest.mark.parametrize("pattern", ["", "-([a-z])"])
def test_groups_of_a_former_pattern_are_removed_by_the_next_checkpoint(pattern: str) -> None:
    keys = [b"pump-a", b"fan-b"]
    owner = Owner(evaluation_groups="^([a-z]+)-")
    for _ in range(2):  # both places
        owner.label(keys, ["1"])
        owner.checkpoint()
    assert owner.groups() == {"", "pump", "fan"}
    owner.start(evaluation_groups="^([a-z]+)-")
    assert owner.groups() == {"", "pump", "fan"}
    owner.start(evaluation_groups=pattern)
    assert owner.groups() == {""}
    owner.checkpoint()
    assert {tuple(names[3:]) for names in owner.kept()} == {("",)}
    owner.label(keys, ["1"])
    owner.checkpoint()
    owner.start(evaluation_groups=pattern)
    assert owner.groups() == ({"", "a", "b"} if pattern else {""})
    for about, evaluation in owner.learning.evaluations.items():
        assert evaluation.n_labels == (1 if about.group else 6)


def test_a_group_of_the_same_name_that_another_pattern_makes_begins_anew() -> None:
    owner = Owner(evaluation_groups="^([a-z]+)-")
    owner.label([b"pump-a", b"pump-b"], ["1"])
    owner.checkpoint()
    owner.start(evaluation_groups="^([a-z]+)-b")
    owner.label([b"pump-b"], ["1"])
    owner.checkpoint()
    owner.checkpoint()
    owner.start(evaluation_groups="^([a-z]+)-b")
    assert owner.learning.evaluations[Evaluated("pump", "1", "pump")].n_labels == 1
    assert len({tuple(names) for names in owner.kept()}) == 2


def test_groups_that_are_kept_in_an_older_form_and_windows_of_other_panes_are_removed() -> None:
    owner = Owner()
    stored = Evaluation("classification", 12, 300.0, CLASSES).encode()
    for place, names in enumerate((["1", "pump"], ["2", ""])):
        name = json.dumps(["evaluation", "pump", *names], separators=(",", ":")).encode()
        owner.store.values[KEPT + b"%d" % place + name] = with_header(KIND, 0, stored)
    owner.start(evaluation_groups="^([a-z]+)-", panes=6)
    assert not owner.learning.evaluations
    owner.checkpoint()
    assert not owner.kept()


def test_at_most_50_groups_are_told_apart_and_the_rest_is_one() -> None:
    owner = Owner(evaluation_groups="^([0-9]+)-")
    for first in range(0, 200, 40):
        owner.label([b"%d-x" % i for i in range(first, first + 40)], ["1", "2"])
        owner.checkpoint()
        owner.start(evaluation_groups="^([0-9]+)-")
    assert owner.groups() == {"", OTHER_GROUPS, *(str(i) for i in range(MAX_GROUPS))}
    assert owner.learning.evaluations[Evaluated("pump", "1", OTHER_GROUPS)].n_labels == 200 - MAX_GROUPS


@pytest.mark.parametrize("panes", [12, 1_000])
def test_what_is_told_of_groups_is_bounded_however_many_versions_and_panes_there_are(panes: int) -> None:
    settings = {"evaluation_groups": "^([0-9]+)-", "panes": panes, "max_features": 16, "max_challengers": 1}
    owner = Owner(**settings)
    rng = np.random.default_rng(1)
    for number in range(8):
        for time in range(0, 3_600, 300):
            keys = [b"%d-x" % i for i in rng.integers(0, 2, 1_000)]
            owner.label(keys, [str(number)], float(time))
        owner.checkpoint()
    owner.checkpoint()
    grouped = {about.version for about in owner.learning.evaluations if about.group}
    assert grouped == {"4", "5", "6", "7"}
    assert owner.versions()[-4:] == ["4", "5", "6", "7"]
    assert {names[2] for names in owner.kept() if names[3]} == grouped
    sizes = [len(of.encode()) for about, of in owner.learning.evaluations.items() if about.group]
    assert max(sizes) < 10_000
    owner.start(**settings)
    assert {about.version for about in owner.learning.evaluations if about.group} == grouped


def test_the_window_of_a_group_is_as_long_as_that_of_all() -> None:
    owner = Owner(evaluation_groups="^([0-9]+)-", panes=100, max_features=16)
    owner.label([b"1-x"], ["1"], time=1_000_000.0)
    told = [evaluation.describe()["window"] for evaluation in owner.learning.evaluations.values()]
    assert [window["end"] - window["start"] for window in told] == pytest.approx([3_600.0, 3_600.0])


@pytest.mark.parametrize("restarts", [False, True])
def test_the_versions_that_were_labelled_last_stay_whatever_they_are_called(restarts: bool) -> None:
    names = [f"v{number * 7 % (MAX_VERSIONS + 4):02d}" for number in range(MAX_VERSIONS + 4)]
    owner = Owner()
    for version in [*names[:MAX_VERSIONS], names[0]]:
        owner.label([b"k"], [version])
        owner.checkpoint()
    for version in names[MAX_VERSIONS:]:
        if restarts:
            owner.start()
        owner.label([b"k"], [version])
        owner.checkpoint()
    assert owner.versions() == [*names[5:MAX_VERSIONS], names[0], *names[MAX_VERSIONS:]]
    owner.checkpoint()
    owner.start()
    assert owner.versions() == [*names[5:MAX_VERSIONS], names[0], *names[MAX_VERSIONS:]]


def test_an_evaluation_that_is_dropped_and_made_anew_before_a_checkpoint_is_kept() -> None:
    owner = Owner()
    owner.label([b"a"], ["first"])
    owner.checkpoint()
    owner.label([b"a"], [str(i) for i in range(MAX_VERSIONS)])
    assert "first" not in owner.versions()
    owner.label([b"a"], ["first"])
    for _ in range(3):
        owner.checkpoint()
    owner.start()
    assert owner.learning.evaluations[Evaluated("pump", "first", "")].n_labels == 1


def test_as_many_versions_as_may_answer_at_once_are_all_kept() -> None:
    owner = Owner(max_challengers=16)
    names = [str(i) for i in range(19)]
    for _ in range(3):
        owner.label([b"k", b"l"], names)
    assert {evaluation.n_labels for evaluation in owner.learning.evaluations.values()} == {6}
    assert owner.versions() == names


def test_a_class_that_another_setting_makes_positive_is_so_after_the_next_start() -> None:
    owner = Owner(online_task="classification")
    about = Evaluated("online", "1")
    online = VersionAnswers(
        model="online",
        version="1",
        role="challenger",
        task="classification",
        classes=("faulty", "ok"),
        positive=1,
        scores=np.array([0.2, 0.8]),
        predictions=np.array([0, 1], np.int32),
    )
    answered = Answered(np.arange(2), np.zeros(2), np.zeros(2), np.zeros(2, np.uint32), (online,))
    owner.learning.learn(answered, ["faulty", "ok"], [b"a", b"b"])
    assert owner.learning.online is not None
    owner.learning.online.learn(["x"], np.array([[0.0], [1.0], [0.0], [1.0]]), ["faulty", "ok"] * 2)
    owner.learning.changed("online")
    for positive, wanted in (("", "ok"), ("faulty", "faulty"), ("broken", "ok")):
        owner.checkpoint()
        owner.start(online_task="classification", positive_class=positive)
        evaluation = owner.learning.evaluations[about]
        assert evaluation.describe()["since_start"]["positive"] == wanted
        assert evaluation.n_labels == 2
        scores = owner.learning.online.score(["x"], np.array([[1.0]]))
        assert scores.scores[0] == scores.probabilities[0, scores.classes.index(wanted)]
