"""Who would serve and who would challenge: the roles that what stands on the models topic comes to.

Owns the choice, for those who act on it (`tables/models.py`) and those who have to know it beforehand
(`tables/promotion.py`). Which claims and challengers there are is in `compute/ledger.py`; whether an artefact
can be loaded is found out by `tables/model_loading.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from compute.ledger import Claim
from compute.scoring import Model
from tables.model_index import ModelIndex
from tables.model_loading import ModelLoader, Reader


class Roles(NamedTuple):
    """What artefacts that can be loaded are.

    Attributes
    ----------
    champions : mapping of str to (Claim, Model)
        By name.
    serving : (Claim, Model) or None
        The one of them that answers; None: the built-in detector does.
    challengers : tuple of Model
        Those with a place in its shadow, the newest first.
    """

    champions: Mapping[str, tuple[Claim, Model]]
    serving: tuple[Claim, Model] | None
    challengers: tuple[Model, ...]


async def find_roles(index: ModelIndex, loader: ModelLoader, settings: Any, read: Reader) -> Roles:
    """Load what roles need and is not held, and return the roles.

    Parameters
    ----------
    index : ModelIndex
    loader : ModelLoader
        Left open.
    settings : app.settings.Settings
        Of these: model, max_challengers.
    read : callable

    Raises
    ------
    OSError
        As `ModelLoader.hold` raises.
    """
    champions = {}
    for name in index.ledger.names():
        if (champion := await _find_champion(name, index, loader, read)) is not None:
            champions[name] = champion
    preferred = settings.model
    known = list(champions.values()) if not preferred else [*filter(None, [champions.get(preferred)])]
    serving = max(known, key=lambda item: item[0].rank, default=None)
    challengers: list[Model] = []
    for name, version in _fitting(index, settings, serving and serving[1]):
        if len(challengers) == settings.max_challengers:
            break
        model = await loader.hold(name, version, index.ledger.sources(name, version), read)
        if model is not None:
            challengers.append(model)
    return Roles(champions, serving, tuple(challengers))


async def _find_champion(
    name: str, index: ModelIndex, loader: ModelLoader, read: Reader
) -> tuple[Claim, Model] | None:
    for claim in index.ledger.claims(name):
        version = claim.version if claim.is_decided else ""
        if (model := await loader.hold(name, version, claim.sources, read)) is not None:
            return claim, model
    return None


def _fitting(index: ModelIndex, settings: Any, serving: Model | None) -> Iterator[tuple[str, str]]:
    """Give the challengers that fit what serves, the newest first: of its kind, and of the name that may."""
    for name, version in index.ledger.challengers():
        if settings.model not in ("", name) or (serving and serving.version == version):
            continue
        kept = index.kept(name, version)
        if kept is not None and (serving is None or kept.kind == serving.kind):
            yield name, version


def why_not_challenging(
    name: str, version: str, roles: Roles, refused: Mapping[int, str], index: ModelIndex, settings: Any
) -> str:
    """Return why a version has no place among the challengers, in one line; empty if it has one.

    Parameters
    ----------
    name, version : str
    roles : Roles
    refused : mapping of int to str
        Why records cannot serve, by offset.
    index : ModelIndex
    settings : app.settings.Settings
        See `find_roles`.
    """
    if any((model.name, model.version) == (name, version) for model in roles.challengers):
        return ""
    about, kept = f"{name} {version}", index.kept(name, version)
    champion = roles.serving and roles.serving[1]
    if (name, version) not in index.ledger.challengers() or kept is None:
        return f"{about} is no challenger: publish it as one first"
    if settings.model not in ("", name):
        return f"{about} cannot answer: {settings.model} alone may (NOWCAST_MODEL)"
    if champion is not None and champion.version == version:
        return f"{about} serves: it cannot challenge itself"
    if champion is not None and champion.kind != kept.kind:
        served = f"{champion.name} {champion.version}"
        return f"{about} cannot answer for {served}: kind {champion.kind!r} needed, it has {kept.kind!r}"
    for offset in index.ledger.sources(name, version):
        if offset in refused:
            return f"{about} cannot serve: {refused[offset]}"
    return (
        f"{about} has no place: at most {settings.max_challengers} challengers are asked, the newest "
        "(NOWCAST_MAX_CHALLENGERS); publish it again, or retire newer ones"
    )
