"""Vectors for FORMAT.md, made by a second implementation that shares no code with `vault`.

Run it to write `sealed-v1.json` beside it; the same input always gives the same file. It is meant
to be read next to FORMAT.md: everything is written the plain way, from HMAC and AES-GCM alone.

A vector that is `invalid` carries the class of failure (`kind` of IntegrityError) that any reader
must report. Plaintexts are given by a rule: byte number i is (i * 7 + i // 251) % 256.
"""

import functools
import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TARGET = Path(__file__).with_name("sealed-v1.json")
KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
SALT = bytes(range(100, 124))
NONCE = bytes(range(200, 212))
CONTEXT = b"strongroom/v1/document/01JD0000000000000000000000"
CHUNK = 16384


@functools.cache
def plaintext(size: int) -> bytes:
    return bytes((i * 7 + i // 251) % 256 for i in range(size))


def hkdf_expand_sha512(prk: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2.3, written out."""
    okm, block, counter = b"", b"", 1
    while len(okm) < length:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha512).digest()
        okm += block
        counter += 1
    return okm[:length]


def derive(key: bytes, salt: bytes, context: bytes) -> tuple[bytes, bytes, bytes]:
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + salt + context
    material = hkdf_expand_sha512(key, info, 76)
    return material[:32], material[32:44], material[44:]


def nonce_of(base: bytes, number: int) -> bytes:
    return bytes(a ^ b for a, b in zip(base, number.to_bytes(12, "big"), strict=True))


def seal(key: bytes, context: bytes, data: bytes, salt: bytes = SALT) -> bytes:
    chunk_key, base, commitment = derive(key, salt, context)
    sealed = salt + commitment
    for number in range(len(data) // CHUNK + 1):
        piece = data[number * CHUNK : (number + 1) * CHUNK]
        sealed += AESGCM(chunk_key).encrypt(nonce_of(base, number), piece, b"")
    return sealed


def unseal(key: bytes, context: bytes, sealed: bytes) -> bytes:
    """Open a valid sealed file; asserts rather than reports."""
    chunk_key, base, commitment = derive(key, sealed[:24], context)
    assert commitment == sealed[24:56]
    body, data, number = sealed[56:], b"", 0
    while True:
        piece = body[number * (CHUNK + 16) : (number + 1) * (CHUNK + 16)]
        plain = AESGCM(chunk_key).decrypt(nonce_of(base, number), piece, b"")
        data += plain
        number += 1
        if len(plain) < CHUNK:
            assert len(body) == len(data) + 16 * number
            return data


def length_prefixed(*values: str) -> bytes:
    return b"".join(len(v.encode()).to_bytes(4, "big") + v.encode() for v in values)


def wrap(key: bytes, secret: bytes, purpose: str, subject: str, group: str) -> bytes:
    bound = b"\x01" + length_prefixed(purpose, subject, group)
    return b"\x01" + NONCE + AESGCM(key).encrypt(NONCE, secret, bound)


def derived(key: bytes, purpose: str) -> bytes:
    return hkdf_expand_sha512(key, b"strongroom/v1/derive/" + purpose.encode(), 32)


def record(key: bytes, data: bytes, purpose: str, subject: str) -> bytes:
    bound = b"\x02" + length_prefixed(purpose, subject)
    return b"\x02" + NONCE + AESGCM(derived(key, "record/" + purpose)).encrypt(NONCE, data, bound)


def index(key: bytes, purpose: str, value: str) -> bytes:
    message = length_prefixed(purpose, value)
    return hmac.new(key, message, hashlib.sha256).digest()[:16]


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _sealed_vectors() -> list[dict[str, object]]:
    vectors: list[dict[str, object]] = []

    def add(comment: str, sealed: bytes, size: int | None, kind: str | None, **more: str) -> None:
        entry: dict[str, object] = {
            "comment": comment,
            "key": KEY.hex(),
            "context": CONTEXT.hex(),
            "sealed_length": len(sealed),
            "sealed_sha256": hashlib.sha256(sealed).hexdigest(),
            "result": "invalid" if kind else "valid",
        }
        if len(sealed) <= 400:
            entry["sealed"] = sealed.hex()
        if size is not None:
            entry["plain_size"] = size
        if kind:
            entry["kind"] = kind
        vectors.append(entry | more)

    sizes = (0, 1, 15, 16, 17, 255, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK)
    for size in (*sizes, 2 * CHUNK + 1, 16 * CHUNK, 257 * CHUNK + 3):
        add(f"{size} bytes", seal(KEY, CONTEXT, plaintext(size)), size, None)
    small = seal(KEY, CONTEXT, plaintext(20))
    for at, kind, what in (
        (0, "commitment", "salt"),
        (24, "commitment", "commitment"),
        (56, "chunk", "ciphertext"),
        (len(small) - 1, "chunk", "tag"),
    ):
        add(f"a bit flipped in the {what}", _flip(small, at), None, kind)
    for cut, kind in ((0, "header"), (24, "header"), (55, "header"), (56, "truncated"),
                      (57, "length"), (71, "length"), (72, "chunk"), (len(small) - 1, "chunk")):  # fmt: skip
        add(f"cut to {cut} bytes", small[:cut], None, kind)
    add("a byte behind the end", small + b"\0", None, "chunk")
    add("another key", small, None, "commitment", key=OTHER_KEY.hex())
    add("another document", small, None, "commitment", context=(CONTEXT[:-1] + b"1").hex())
    return vectors


def build() -> dict[str, object]:
    """Return the content of sealed-v1.json."""
    return {
        "format": "strongroom test vectors, FORMAT.md sections 2 to 5",
        "salt": SALT.hex(),
        "sealed": _sealed_vectors(),
        "derive": [
            {"key": KEY.hex(), "purpose": p, "derived": derived(KEY, p).hex()}
            for p in ("", "root/wrap", "record/metadata", "发票")
        ],
        "wrapped": [
            {
                "wrapping_key": KEY.hex(), "key": OTHER_KEY.hex(), "purpose": p, "subject": s,
                "group": g, "wrapped": wrap(KEY, OTHER_KEY, p, s, g).hex(),
            }
            for p, s, g in (("document", "01JD0000000000000000000000", "g1"), ("", "", ""),
                            ("a", "bc", "d"), ("ab", "c", "d"))
        ],
        "records": [
            {
                "key": KEY.hex(), "purpose": p, "subject": s, "data": d.hex(),
                "sealed": record(KEY, d, p, s).hex(),
            }
            for p, s, d in (("metadata", "01JD0000000000000000000000", b'{"name":"x"}'),
                            ("metadata", "客户", b""))
        ],
        "blind_index": [
            {"key": KEY.hex(), "purpose": p, "value": v, "index": index(KEY, p, v).hex()}
            for p, v in (("name", "invoice.pdf"), ("name", "发票.pdf"), ("email", ""),
                         ("ab", "c"), ("a", "bc"))
        ],
    }  # fmt: skip


def render() -> str:
    """Return the exact text of sealed-v1.json."""
    return json.dumps(build(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
