"""Signatures of what stands on the models topic: Ed25519 (Bernstein et al. 2012, RFC 8032).

Owns what is signed and how a signature is checked. Reading key files is in `tables/keys.py`; which parts a
record has is in `tables/artefact_records.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

DOMAIN = b"nowcast models topic, record, version 1"
"""Begins all that is signed here, so that a signature made for something else never fits."""

_PUBLIC_KEY = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.S)


class SignatureError(ValueError):
    """A signature is missing or wrong, or a key is none; the message is one line."""


@dataclass(frozen=True)
class Signature:
    """A signature and whose it is.

    Attributes
    ----------
    key_id : str
        Of the public key: 16 hexadecimal characters.
    value : bytes
        64 bytes.
    """

    key_id: str
    value: bytes


def message_of(kind: str, key: bytes, parts: Sequence[bytes]) -> bytes:
    """Return what is signed of a record: its kind, its key and a hash of each part.

    Key and kind are in it, so a record that is put under another key is one that nobody signed. Each part
    has a hash of its own, so nothing can move from one part to the next.

    Examples
    --------
    >>> message_of("artefact", b"pump", [b"a", b"b"]) == message_of("artefact", b"pump", [b"ab", b""])
    False
    """
    fields = [kind.encode(), key, *parts]
    digests = b"".join(hashlib.sha256(field).digest() for field in fields)
    return DOMAIN + len(fields).to_bytes(4, "big") + digests


class Signer:
    """Who publishes.

    Parameters
    ----------
    private_key : Ed25519PrivateKey
    """

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.key_id = key_id_of(private_key.public_key())

    def sign(self, kind: str, key: bytes, parts: Sequence[bytes]) -> Signature:
        """Sign a record."""
        return Signature(self.key_id, self._private_key.sign(message_of(kind, key, parts)))


class Verifier:
    """Who may publish.

    Parameters
    ----------
    public_keys : sequence of Ed25519PublicKey
    """

    def __init__(self, public_keys: Sequence[Ed25519PublicKey]) -> None:
        self._public_keys: Mapping[str, Ed25519PublicKey] = {key_id_of(key): key for key in public_keys}

    @property
    def key_ids(self) -> list[str]:
        """Ids of the keys that are trusted."""
        return list(self._public_keys)

    def check(self, signature: Signature | None, kind: str, key: bytes, parts: Sequence[bytes]) -> None:
        """Check a record.

        Raises
        ------
        SignatureError
            It has no signature, one of a key that is not trusted, or one that is not of this record.
        """
        if signature is None:
            raise SignatureError("signature: one of a trusted key needed, received none")
        public_key = self._public_keys.get(signature.key_id)
        if public_key is None:
            raise SignatureError(
                f"signature: of one of the trusted keys {', '.join(self.key_ids)} needed, "
                f"received one of {signature.key_id[:16]!r}"
            )
        try:
            public_key.verify(signature.value, message_of(kind, key, parts))
        except InvalidSignature:
            raise SignatureError(
                f"signature: not of this record: it was altered, or put under another key than it was "
                f"signed for (key {signature.key_id})"
            ) from None


def key_id_of(public_key: Ed25519PublicKey) -> str:
    """Return the first 16 characters of the SHA-256 of a public key's 32 bytes."""
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()[:16]


def read_signer(pem: bytes) -> Signer:
    """Read a private key.

    Raises
    ------
    SignatureError
        It is not the PEM form (PKCS 8) of an Ed25519 key without a password.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError("a private Ed25519 key in PEM form without a password needed")
    return Signer(key)


def read_verifier(pem: bytes) -> Verifier:
    """Read public keys, one behind the other.

    Raises
    ------
    SignatureError
        There is none, or one of them is not the PEM form of an Ed25519 key.
    """
    blocks = _PUBLIC_KEY.findall(pem)
    if not blocks or len(blocks) != pem.count(b"-----BEGIN"):
        raise SignatureError("one or more public Ed25519 keys in PEM form needed, and nothing else")
    keys = []
    for number, block in enumerate(blocks, 1):
        try:
            key = serialization.load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise SignatureError(f"key {number} of {len(blocks)} is no public Ed25519 key")
        keys.append(key)
    return Verifier(keys)


def key_pair_of(seed: bytes) -> tuple[bytes, bytes]:
    """Return the private and the public key of 32 secret bytes, in PEM form.

    Examples
    --------
    >>> private, public = key_pair_of(bytes(32))
    >>> signature = read_signer(private).sign("artefact", b"pump", [b"onnx"])
    >>> read_verifier(public).check(signature, "artefact", b"pump", [b"onnx"])
    >>> read_verifier(public).check(signature, "artefact", b"valve", [b"onnx"])
    Traceback (most recent call last):
    ...
    compute.signatures.SignatureError: signature: not of this record...
    """
    key = Ed25519PrivateKey.from_private_bytes(seed)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public
