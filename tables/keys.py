"""Key files: who signs what is published, and whose signatures are trusted.

Owns reading the files that the settings name. What a signature is, is in `compute/signatures.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from compute.signatures import SignatureError, Signer, Verifier, read_signer, read_verifier

_Key = TypeVar("_Key")


class KeyFileError(ValueError):
    """A key file cannot be used; the message is one line and names the setting."""


def load_signer(settings: Any) -> Signer | None:
    """Read the private key of `NOWCAST_SIGNING_KEY`; None without.

    Raises
    ------
    KeyFileError
        The file cannot be read, or holds no such key.
    """
    return _load("NOWCAST_SIGNING_KEY", settings.signing_key, read_signer)


def load_verifier(settings: Any) -> Verifier | None:
    """Read the public keys of `NOWCAST_TRUSTED_KEYS`; None without, and then nothing needs a signature.

    Raises
    ------
    KeyFileError
        The file cannot be read, or holds no such key.
    """
    return _load("NOWCAST_TRUSTED_KEYS", settings.trusted_keys, read_verifier)


def check_key_files(settings: Any) -> None:
    """Read both, for a start that fails at once where they cannot be used.

    Raises
    ------
    KeyFileError
        One of the files cannot be read, or holds no such key.
    """
    load_signer(settings)
    load_verifier(settings)


def _load(setting: str, path: Path | None, read: Callable[[bytes], _Key]) -> _Key | None:
    if path is None:
        return None
    try:
        return read(Path(path).read_bytes())
    except OSError as error:
        raise KeyFileError(f"{setting}: {str(path)!r} cannot be read: {error.strerror}") from None
    except SignatureError as error:
        raise KeyFileError(f"{setting}: {str(path)!r}: {error}") from None
