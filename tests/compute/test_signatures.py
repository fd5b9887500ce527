from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from compute.signatures import (
    Signature,
    SignatureError,
    key_id_of,
    key_pair_of,
    message_of,
    read_signer,
    read_verifier,
)

OURS, THEIRS = key_pair_of(b"o" * 32), key_pair_of(b"t" * 32)
SIGNER, VERIFIER = read_signer(OURS[0]), read_verifier(OURS[1])

fields = st.tuples(st.text(max_size=5), st.binary(max_size=5), st.lists(st.binary(max_size=5), max_size=4))


@given(fields)
def test_a_signature_fits_the_record_that_was_signed(record: tuple[str, bytes, list[bytes]]) -> None:
    VERIFIER.check(SIGNER.sign(*record), *record)


@given(fields, fields)
def test_no_two_records_have_the_same_message(
    one: tuple[str, bytes, list[bytes]], two: tuple[str, bytes, list[bytes]]
) -> None:
    assert (message_of(*one) == message_of(*two)) == (one == two)


@given(fields, fields)
def test_a_signature_fits_no_other_record(
    one: tuple[str, bytes, list[bytes]], two: tuple[str, bytes, list[bytes]]
) -> None:
    if one != two:
        with pytest.raises(SignatureError, match="not of this record"):
            VERIFIER.check(SIGNER.sign(*one), *two)


@given(st.integers(0, 511))
def test_a_signature_with_one_bit_changed_is_wrong(bit: int) -> None:
    signature = SIGNER.sign("artefact", b"pump", [b"onnx"])
    value = bytearray(signature.value)
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SignatureError, match="not of this record"):
        VERIFIER.check(Signature(signature.key_id, bytes(value)), "artefact", b"pump", [b"onnx"])


def test_a_signature_is_that_of_the_library_over_the_message() -> None:
    public = serialization.load_pem_public_key(OURS[1])
    assert isinstance(public, Ed25519PublicKey)
    signature = SIGNER.sign("artefact", b"pump", [b"onnx", b""])
    public.verify(signature.value, message_of("artefact", b"pump", [b"onnx", b""]))
    assert signature.key_id == key_id_of(public) == VERIFIER.key_ids[0]


@pytest.mark.parametrize("value", [b"", b"x", b"x" * 63, b"x" * 65])
def test_what_is_no_signature_is_refused(value: bytes) -> None:
    with pytest.raises(SignatureError):
        VERIFIER.check(Signature(SIGNER.key_id, value), "artefact", b"pump", [])


def test_a_missing_signature_and_a_strangers_are_told_apart() -> None:
    with pytest.raises(SignatureError, match="received none"):
        VERIFIER.check(None, "artefact", b"pump", [])
    stranger = read_signer(THEIRS[0])
    with pytest.raises(SignatureError, match=f"{SIGNER.key_id} needed, received one of '{stranger.key_id}'"):
        VERIFIER.check(stranger.sign("artefact", b"pump", []), "artefact", b"pump", [])
    forged = Signature(SIGNER.key_id, stranger.sign("artefact", b"pump", []).value)
    with pytest.raises(SignatureError, match="not of this record"):
        VERIFIER.check(forged, "artefact", b"pump", [])


def test_several_keys_may_be_trusted() -> None:
    both = read_verifier(OURS[1] + b"\n# of the training cluster\n" + THEIRS[1])
    for private, _ in (OURS, THEIRS):
        signer = read_signer(private)
        both.check(signer.sign("decision", b"key", [b"{}"]), "decision", b"key", [b"{}"])
    assert len(both.key_ids) == 2


def pem_of(key: object, password: bytes = b"") -> bytes:
    encryption: object = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


ELLIPTIC = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"hello",
        OURS[1],
        OURS[0][:60],
        pem_of(ELLIPTIC),
        pem_of(rsa.generate_private_key(65537, 2048)),
        pem_of(Ed25519PrivateKey.generate(), b"secret"),
    ],
    ids=["empty", "text", "public", "cut", "elliptic", "rsa", "password"],
)
def test_what_is_no_private_key_is_refused(pem: bytes) -> None:
    with pytest.raises(SignatureError, match="a private Ed25519 key in PEM form without a password needed"):
        read_signer(pem)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"hello",
        OURS[0],
        OURS[1] + OURS[0],
        OURS[1][:60],
        OURS[1] + OURS[1][:60],
        OURS[1].replace(b"MCow", b"MCox"),
        ELLIPTIC.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    ],
    ids=["empty", "text", "private", "private too", "cut", "second cut", "damaged", "elliptic"],
)
def test_what_are_no_public_keys_is_refused(pem: bytes) -> None:
    with pytest.raises(SignatureError, match="public Ed25519 key"):
        read_verifier(pem)
