"""What a topic of artefacts and decisions comes to: claims, challengers, a split, and the way back.

Owns the rules by which every worker comes to the same answer, whether it followed the topic or reads it
later, with or without what compaction took meanwhile. It knows offsets and versions and no artefacts: whether
one can serve is found out by who asks, claim by claim.

Two orders are possible. By offset is the topic's own: whoever writes last decides, and any record under a
model's name is a promotion. By decision is the one where records are signed: the signed times of decisions
order them, and a record that somebody puts on the topic once more is no newer for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from compute.challenges import Turn
from compute.decisions import Decision

Rank = tuple[float, str]
"""Place in the order that counts; the larger one decides."""


class Claim(NamedTuple):
    """Something that makes an artefact the champion of its name.

    Attributes
    ----------
    rank : Rank
    name, version : str
        The version may be empty where only the artefact's content tells.
    sources : tuple of int
        Offsets of records that have the artefact, newest first.
    is_decided : bool
        Whether a decision says so, about this version and no other; else it is the record itself.
    """

    rank: Rank
    name: str
    version: str
    sources: tuple[int, ...]
    is_decided: bool


class Standing(NamedTuple):
    """What was decided last about a version."""

    rank: Rank
    name: str
    action: str


class _Step(NamedTuple):
    rank: Rank
    key: str
    decision: Decision


@dataclass
class _Name:
    """What the topic has under one name.

    `published` is the newest record under the name itself with its version, None after a tombstone; `records`
    are all of them since the last tombstone.
    """

    published: tuple[int, str] | None = None
    records: list[tuple[int, str]] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)
    steps: list[_Step] = field(default_factory=list)


class Ledger:
    """The records of the models topic, in short.

    Parameters
    ----------
    by_decision : bool
        Whether only decisions count, ordered by their time; else all records do, ordered by offset.

    Attributes
    ----------
    last_at : float
        Time of the newest decision.
    """

    def __init__(self, by_decision: bool = False) -> None:
        self._by_decision = by_decision
        self._names: dict[str, _Name] = {}
        self._standings: dict[str, Standing] = {}
        self._turns: dict[tuple[str, str], Turn] = {}
        self._split: tuple[Rank, Decision] | None = None
        self.last_at = 0.0

    def publish(self, offset: int, name: str, version: str) -> None:
        """Note an artefact under its name; the version may be empty."""
        known = self._name(name)
        known.published = offset, version
        known.records.append((offset, version))

    def keep(self, offset: int, name: str, version: str) -> None:
        """Note an artefact under its name and version."""
        self._name(name).kept[version] = offset

    def remove(self, name: str, version: str = "") -> None:
        """Note a tombstone: of what is kept, or without a version of the champion."""
        known = self._name(name)
        if version:
            known.kept.pop(version, None)
        else:
            known.published, known.records = None, []

    def decide(self, offset: int, key: str, decision: Decision) -> None:
        """Note a decision.

        Parameters
        ----------
        offset : int
        key : str
            Of its record; of two decisions at the same time the one with the larger key counts.
        decision : Decision
        """
        rank = self._rank(offset, decision.at, key)
        self.last_at = max(self.last_at, decision.at)
        if decision.action == "split":
            if self._split is None or rank >= self._split[0]:
                self._split = rank, decision
            return
        self._stand(key, decision.version, Standing(rank, decision.model, decision.action))
        if decision.action not in ("promote", "rollback"):
            return
        if decision.previous and decision.previous != decision.version:
            # It served, whoever brought it there: from now on it is a former champion.
            self._stand(key, decision.previous, Standing(rank, decision.model, "replace"))
        known = self._name(decision.model)
        # A record that stands there twice, by a producer's second attempt or on purpose, counts once.
        known.steps = [step for step in known.steps if step.key != key]
        known.steps.append(_Step(rank, key, decision))
        known.steps.sort(key=lambda step: step.rank)

    def names(self) -> list[str]:
        """Return the names of all models."""
        return sorted(self._names)

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model that are kept and not retired, newest first."""
        kept = self._names[name].kept if name in self._names else {}
        return sorted(
            (version for version in kept if not self.is_retired(version)), key=lambda version: -kept[version]
        )

    def sources(self, name: str, version: str) -> tuple[int, ...]:
        """Return the offsets of the records that have an artefact, newest first.

        Of the records under the name itself only the newest can be one: compaction takes the others.
        """
        known = self._names.get(name)
        if known is None:
            return ()
        offsets = {known.kept[version]} if version in known.kept else set()
        if known.published is not None and known.published[1] == version:
            offsets.add(known.published[0])
        return tuple(sorted(offsets, reverse=True))

    def claims(self, name: str) -> Iterator[Claim]:
        """Give what makes an artefact the champion of a name, newest first; the first that can serve does."""
        known = self._names.get(name)
        if known is None:
            return
        claims = []
        # A name that nothing stands under was removed by hand, whose tombstone is forgotten in time.
        if self._by_decision or known.published is not None:
            claims += [
                Claim(
                    *(step.rank, name, step.decision.version, self.sources(name, step.decision.version)),
                    is_decided=True,
                )
                for step in known.steps
            ]
        if not self._by_decision:
            claims += [
                Claim(self._rank(offset, 0.0, ""), name, version, (offset,), is_decided=False)
                for offset, version in known.records
            ]
        yield from sorted(claims, key=lambda claim: claim.rank, reverse=True)

    def turns(self) -> Iterable[Turn]:
        """Return what became of every version, each time, apart from splits."""
        return self._turns.values()

    def challengers(self) -> list[tuple[str, str]]:
        """Return name and version of what challenges, the newest first; not whether it can."""
        found = [(standing, version) for version, standing in self._standings.items()]
        challenging = [item for item in found if item[0].action == "challenge"]
        challenging.sort(key=lambda item: item[0].rank, reverse=True)
        return [(standing.name, version) for standing, version in challenging]

    def standing(self, version: str) -> Standing | None:
        """Return what was decided last about a version, apart from splits."""
        return self._standings.get(version)

    def split_against(self, champion: Claim | None) -> tuple[str, float] | None:
        """Return version and share of the split that is in force while this claim serves.

        It ends with the champion that it was made against, and with a share of 0.
        """
        if self._split is None:
            return None
        rank, decision = self._split
        if not decision.share or (champion is not None and champion.rank > rank):
            return None
        return decision.version, decision.share

    def way_back(self, name: str, current: str) -> list[str]:
        """Return the former champions that a rollback can go to, the nearest first.

        Parameters
        ----------
        name : str
        current : str
            Version that is champion of the name now.
        """
        known = self._names.get(name)
        stack: list[str] = []
        for step in known.steps if known is not None else []:
            decision = step.decision
            if decision.action == "rollback" and decision.version in stack:
                del stack[stack.index(decision.version) + 1 :]
                continue
            for version in (decision.previous, decision.version):
                if version and version not in stack[-1:]:
                    stack.append(version)
        if current in stack:
            del stack[len(stack) - 1 - stack[::-1].index(current) :]
        nearest = list(dict.fromkeys(reversed(stack)))
        return [version for version in nearest if version != current and not self.is_retired(version)]

    def owner(self, version: str) -> str:
        """Return the name under which an artefact stands on the topic; empty where none does."""
        return next((name for name in self.names() if self.sources(name, version)), "")

    def is_retired(self, version: str) -> bool:
        """Tell whether a version was retired last: what is kept of it is to go."""
        standing = self._standings.get(version)
        return standing is not None and standing.action == "retire"

    def _stand(self, key: str, version: str, standing: Standing) -> None:
        self._turns[key, version] = Turn(standing.rank, standing.name, version, standing.action)
        known = self._standings.get(version)
        if known is None or standing.rank >= known.rank:
            self._standings[version] = standing

    def _name(self, name: str) -> _Name:
        return self._names.setdefault(name, _Name())

    def _rank(self, offset: int, at: float, key: str) -> Rank:
        return (at, key) if self._by_decision else (float(offset), "")
