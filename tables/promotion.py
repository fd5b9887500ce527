"""Decisions about what is published: promotion, rollback, retirement, and the split of entities.

Owns what each decision writes. Every worker follows the topic and acts on it from its next batch on; nothing
here speaks to a worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from compute.artefact import ArtefactError
from compute.decisions import artefact_key, encode_decision
from tables.model_records import Artefact, Record, artefact_record
from tables.model_writing import ModelWriter


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes
    ----------
    changed : bool
        Whether anything was written; else `message` says why nothing was to do.
    model, version, previous : str
        The last is the version that was champion before; it may be empty.
    message : str
        One line for people.
    """

    changed: bool
    model: str
    version: str
    previous: str
    message: str


async def promote(
    settings: Any,
    name: str,
    version: str = "",
    *,
    by: str = "",
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
    over: str = "",
) -> Outcome:
    """Make a published artefact the champion, on every worker from its next batch on.

    Parameters
    ----------
    settings : app.settings.Settings
    name : str
    version : str
        Empty: the model's newest challenger.
    by, reason : str
    evidence : mapping, optional
        See `tables.artefact_records.publish`.
    over : str
        Version that the evidence compares it with: nothing is done where another one serves by now.

    Returns
    -------
    Outcome
        What serves already is not promoted again.

    Raises
    ------
    ArtefactError
        There is no such artefact on the topic, or nothing that challenges; or as `publish` raises.
    KeyFileError, TopicError, aiokafka.errors.KafkaError
        As `publish` raises.
    """
    async with ModelWriter(settings) as writer:
        chosen = version or _newest_challenger(writer, name)
        served_name, served = await writer.serving()
        if (served_name, served) == (name, chosen):
            return _nothing(name, chosen, served, f"{name} {chosen} serves already")
        if over and over != served:
            told = f"{over} serves no more, {served or 'nothing'} does: {name} {chosen} is not promoted"
            return _nothing(name, chosen, served, told)
        artefact = await writer.artefact(name, chosen)
        return await _change(
            writer, "promote", name, chosen, artefact, by=by, reason=reason, evidence=evidence
        )


async def rollback(settings: Any, name: str, version: str = "", *, by: str = "", reason: str = "") -> Outcome:
    """Go back to a former champion, with the normaliser and all else that is in its artefact.

    Without a version that is the one before the present champion of that name was promoted; a second rollback
    goes one further back. A model that has no former champion gives way to the one of another name that
    served before it.

    Parameters
    ----------
    settings, name, by, reason
        See `promote`.
    version : str
        A version that is kept; empty: the former champion.

    Returns
    -------
    Outcome
        `model` is the one that serves now.

    Raises
    ------
    ArtefactError
        There was no other champion, or its artefact is not on the topic any more; or as `promote` raises.
    """
    async with ModelWriter(settings) as writer:
        served = await writer.serving()
        target_name, target = (name, version) if version else await _former_champion(writer, name)
        if served == (target_name, target):
            return _nothing(target_name, target, target, f"{target_name} {target} serves already")
        artefact = await writer.artefact(target_name, target)
        return await _change(writer, "rollback", target_name, target, artefact, by=by, reason=reason)


async def retire(settings: Any, name: str, version: str, *, by: str = "", reason: str = "") -> Outcome:
    """Let a version challenge no more and take its artefact from the topic; the decisions about it stay.

    Raises
    ------
    ArtefactError
        It is champion, or not known; or as `promote` raises.
    """
    async with ModelWriter(settings) as writer:
        champion = await writer.champion(name)
        if champion is not None and champion[1] == version:
            raise ArtefactError(f"{name} {version} is champion: promote another version, or roll back, first")
        if version not in writer.index.ledger.versions(name):
            if writer.index.ledger.is_retired(version):
                return _nothing(name, version, "", f"{name} {version} is retired already")
            raise ArtefactError(f"{name} has no version {version} that is kept")
        decision = writer.decide("retire", name, version, by, reason=reason)
        record = writer.decision_record(decision, encode_decision(decision))
        await writer.write([record, Record(artefact_key(name, version).encode(), None, [])])
        return Outcome(True, name, version, "", f"{name} {version} retired")


async def split(
    settings: Any, name: str, version: str, share: float, *, by: str = "", reason: str = ""
) -> Outcome:
    """Let a challenger answer for a share of the entities, until another champion comes or the share is 0.

    Parameters
    ----------
    settings, name, by, reason
        See `promote`.
    version : str
        Of a challenger.
    share : float
        From 0 to 1.

    Raises
    ------
    ArtefactError
        The share is out of bounds, or the version could not answer: it does not challenge, or workers have
        no place for it; or as `promote` raises.
    """
    if not 0.0 <= share <= 1.0:
        raise ArtefactError(f"share: from 0 to 1 needed, received {share}")
    async with ModelWriter(settings) as writer:
        if share and (reason_against := await writer.why_not_challenging(name, version)):
            raise ArtefactError(reason_against)
        decision = writer.decide("split", name, version, by, reason=reason, share=float(share))
        await writer.write([writer.decision_record(decision, encode_decision(decision))])
        told = f"answers for {share:.0%} of the entities" if share else "answers for no entity any more"
        return Outcome(True, name, version, "", f"{name} {version} {told}")


async def champion_batches(
    writer: ModelWriter,
    action: Literal["promote", "rollback"],
    name: str,
    version: str,
    artefact: Artefact,
    *,
    by: str = "",
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
) -> tuple[list[Sequence[Record]], tuple[str, str]]:
    """Return the batches that make an artefact the champion of its name, and what it takes the place of.

    The last batch is the change. Those before keep what it takes to undo it: the artefact itself, and what
    somebody put under a name without keeping it.
    """
    replaced = await writer.replaced_by(name)
    before = await writer.champion(name)
    touched = dict.fromkeys([(name, version), (name, before[1] if before else ""), replaced])
    batches: list[Sequence[Record]] = []
    for owner, old in touched:
        if old and old not in writer.index.ledger.versions(owner):
            content = artefact if (owner, old) == (name, version) else await writer.artefact(owner, old)
            batches.append([artefact_record(artefact_key(owner, old), content, b"", writer.signer)])
    told = {"reason": reason, "evidence": dict(evidence or {})}
    decision = writer.decide(action, name, version, by, previous=replaced[1], **told)
    encoded = encode_decision(decision)
    champion = artefact_record(name, artefact, encoded, writer.signer)
    return [*batches, [champion, writer.decision_record(decision, encoded)]], replaced


async def _change(
    writer: ModelWriter,
    action: Literal["promote", "rollback"],
    name: str,
    version: str,
    artefact: Artefact,
    **told: Any,
) -> Outcome:
    batches, (owner, previous) = await champion_batches(writer, action, name, version, artefact, **told)
    await writer.write(*batches)
    done = "promoted" if action == "promote" else "is back"
    if previous:
        done += f", before: {previous}" if owner == name else f", before: {owner} {previous}"
    return Outcome(True, name, version, previous, f"{name} {version} {done}")


async def _former_champion(writer: ModelWriter, name: str) -> tuple[str, str]:
    """Return name and version of the nearest former champion of this name, else of the nearest of another."""
    champion, ledger = await writer.champion(name), writer.index.ledger
    way = ledger.way_back(name, champion[1] if champion is not None else "")
    known = [(owner, version) for version in way if (owner := ledger.owner(version))]
    if not known:
        raise ArtefactError(f"{name} has no former champion to go back to; name a VERSION")
    return min(known, key=lambda item: item[0] != name)


def _newest_challenger(writer: ModelWriter, name: str) -> str:
    found = next((version for owner, version in writer.index.ledger.challengers() if owner == name), "")
    if not found:
        raise ArtefactError(f"nothing challenges under the name {name!r}; name a VERSION")
    return found


def _nothing(name: str, version: str, previous: str, message: str) -> Outcome:
    return Outcome(False, name, version, previous, message)
