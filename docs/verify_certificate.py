"""Verify a Strongroom certificate of destruction without Strongroom (section 11 of vault/FORMAT.md).

    python verify_certificate.py CERTIFICATE.json LEDGER_KEY [LEDGER_KEY ...]

Needs Python 3.11 and `cryptography`; shares no code with the product. LEDGER_KEY: the ledger's verifier key
as you know it from elsewhere. Compare the fingerprints that it prints with those of the right people.
"""

import json
import sys
from base64 import b64decode, b64encode
from datetime import datetime
from hashlib import sha256, sha512

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

HASHES = {b"256": SHA256(), b"384": SHA384(), b"512": SHA512(), b"521": SHA512()}
WORDS = {  # SHA-256 of the canonical JSON of [sentence of the claim, limits]
    "L0": "b2164d3cc36e4b6479f7657321970b4150db8b5bed496dabed4d13b00a2567bc",
    "L1": "fd7e9a1ae70b4266c85f2fcbdc7f38dd5a58b182919d14de81a312e3f77d6433",
    "L2": "3d2448cc7833ddfe97e8b62cb0b30594558edb793135793c16f2e29ab674f583",
    "L3": "548e3fdba19c3890fcedf578f9c2af4f7ae17b5d02233ef7570beea644079452",
}
NAMED = {  # what each kind of signed statement names, line by line
    "approval": "batch client register items scope account role decision",
    "witness": "batch client register items account role",
    "sanitisation": "batch client medium serial method performed place account",
}


def need(condition: object, what: str) -> None:
    if not condition:
        raise ValueError(what)


def digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


def strings(data: bytes) -> list[bytes]:
    size = 4 + int.from_bytes(data[:4], "big")
    need(4 <= size <= len(data), "signature: cut short")
    return [data[4:size], *(strings(data[size:]) if data[size:] else [])]


def signer(armored: str, text: str, namespace: str) -> str:
    """Verify an OpenSSH signature (PROTOCOL.sshsig); return its key's fingerprint."""
    body = b64decode("".join(armored.split("\n")[1:-2]), validate=True)
    blob, space, reserved, algorithm, inner = strings(body[10:])
    need((body[:10], space) == (b"SSHSIG\0\0\0\1", namespace.encode()), "signature: another kind")
    taken = {b"sha256": sha256, b"sha512": sha512}[algorithm](text.encode()).digest()
    fields = (space, reserved, algorithm, taken)
    data = b"SSHSIG" + b"".join(len(each).to_bytes(4, "big") + each for each in fields)
    kind, raw = strings(inner)
    key = load_ssh_public_key(strings(blob)[0] + b" " + b64encode(blob))
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(raw, data)
    elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        key.verify(raw, data, padding.PKCS1v15(), HASHES[kind[-3:]])
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        r, s = (int.from_bytes(each, "big") for each in strings(raw))
        key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(HASHES[kind[-3:]]))
    return "SHA256:" + b64encode(sha256(blob).digest()).decode().rstrip("=")


def enrolled(each: dict, due: datetime, owners: dict) -> str:
    """Check how the key of one signature came to its account, where that is stated; say how it did."""
    if (stated := each.get("enrolment")) is None:
        return "how its key was enrolled is not stated"
    who, me = each["account"], (each["account"], stated["account_id"])
    key, by = stated["fingerprint"], stated["enrolled_by"]
    need(key == each["fingerprint"], f"key of {who}: the enrolment of another key is stated")
    added, counts = (datetime.fromisoformat(stated[name]) for name in ("added_at", "counts_from"))
    need(added <= counts <= due, f"key of {who}: it did not count by {due}, but from {counts}")
    known = by in ("founding", "console")
    hands = [] if known else [(one["account"], one["account_id"]) for one in by]
    need(by, f"key of {who}: enrolled by nobody")
    named = "by " + " and ".join(name for name, _ in hands) if hands else f"at the {by}"
    root = stated.get("together_with") == "root-key"  # a lost quorum, and its recovery
    named += " and the holder of the root key" if root else ""
    if "decision" in each or each.get("role") == "officer":
        sole = hands == [me] or (me not in hands and len(set(hands)) + root > 1)
        need(by == "founding" or sole, f"key of {who}: enrolled {named} alone")
    then = {me, *hands}  # names and ids as they were at one moment
    single = len({name for name, _ in then}) == len({number for _, number in then}) == len(then)
    need(single, f"key of {who}: of those who enrolled it, one has two names or two have one")
    found = owners.setdefault(key, me)
    need(found[1] == me[1], f"{key}: it belongs to both {found[0]} and {who}")
    if "role" in each:
        found = owners.setdefault(me[1], me)
        need(found == me, f"{me[1]}: it belongs to both {found[0]} and {who}")
    return f"enrolled {added} {named}, counts from {counts}"


def verify(data: bytes, vkeys: list[str]) -> str:
    whole = json.loads(data)
    form = {**whole, "format": "strongroom-certificate-v1"}
    again = json.dumps(form, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    need(again.encode() == data, "file: not in its one form")
    body, ledger, at = whole["body"], whole["ledger"], datetime.fromisoformat
    # 1. The entry holds the digest of the body, and leads to a checkpoint signed by a known key.
    entry = b64decode(ledger["entry"], validate=True)
    said, (head, _, note) = json.loads(entry), ledger["proof"].partition("\n\n")
    about = (said["kind"], said["subject"], said["facts"]["certificate_digest"])
    need(about == ("disposal.certified", body["batch_id"], digest(body)), "entry: of another body")
    need(ledger["vkey"] in vkeys, "checkpoint: by none of the keys given")
    text, _, lines = note.rpartition("\n\n")
    (origin, size, root, *_), (name, key_id, key) = text.split("\n"), ledger["vkey"].split("+", 2)
    mine = [line.split(" ")[2] for line in lines.split("\n") if line.startswith(f"\u2014 {name} ")]
    marks = [each[4:] for each in map(b64decode, mine) if each[:4].hex() == key_id]
    need(marks, "checkpoint: not signed by the ledger key")
    for each in marks:  # C2SP signed-note
        public = ed25519.Ed25519PublicKey.from_public_bytes(b64decode(key)[1:])
        public.verify(each, f"{text}\n".encode())
    need({name, origin, ledger["origin"]} == {body["gateway"]["origin"]}, "origin: another")
    index, last, node = said["seq"], int(size) - 1, sha256(b"\0" + entry).digest()
    magic, place, *path = head.split("\n")
    need((magic, place) == ("c2sp.org/tlog-proof@v1", f"index {index}"), "proof: of another entry")
    for sibling in map(b64decode, path):  # RFC 9162, 2.1.3.2
        need(0 <= index <= last and last, "inclusion: path too long")
        right = index & 1 or index == last
        node = sha256(b"\1" + (sibling + node if right else node + sibling)).digest()
        while right and index and not index & 1:
            index, last = index >> 1, last >> 1
        index, last = index >> 1, last >> 1
    need((index, last, b64encode(node).decode()) == (0, 0, root), "inclusion: leads elsewhere")
    # 2. The register, and what became of each item: nothing before it was due and approved.
    register, outcomes = body["register"], body["outcomes"]
    ids = [item["document_id"] for item in register]
    need(ids and digest(register) == body["register_digest"], "register: another digest")
    need(ids == [item["document_id"] for item in outcomes], "outcomes: of another register")
    proposed, began, issued = (at(body[f"{k}_at"]) for k in ("proposed", "executed", "issued"))
    for item, end in zip(register, outcomes, strict=True):
        gone = at(end["destroyed_at"]) if end["result"] == "destroyed" else began
        order = [at(item["retained_until"]), at(item["eligible_at"]), proposed, began, gone, issued]
        need(order == sorted(order), f"dates of {item['document_id']}: in another order")
    # 3. People: two who approved; nobody in two parts; each statement about this batch and signed.
    people = [*body["approvals"], *body["witnesses"]]
    keys = {each["fingerprint"] for each in people}
    accounts = {each["account"] for each in [*people, body["executor"]]}
    need(len(body["approvals"]) >= 2, "approvals: fewer than two")
    need(len(keys) == len(people), "people: one key under two names")
    need(len(accounts) - 1 == len(people), "people: one in two parts")
    common = {"batch": body["batch_id"], **{k: body[k] for k in ("client", "scope")}}
    common |= {"items": len(register), "register": f"sha256:{body['register_digest']}"}
    for each in [*people, *body["sanitisations"]]:
        kind = "witness" if "role" in each else "sanitisation"
        kind = "approval" if each.get("decision") == "approve" else kind
        values = {**common, **each, "performed": each.get("performed_on")}
        facts = "".join(f"{field}: {values[field]}\n" for field in NAMED[kind].split())
        text = each["statement"]
        need(text.startswith(f"strongroom {kind} v1\n{facts}I "), f"{kind}: another statement")
        key = signer(each["signature"], text, f"strongroom-{kind}-v1")
        need(key == each["fingerprint"], f"{kind}: another key")
    # 4. Keys: each enrolled in time, by its owner, two others or in the founding days; one owner each.
    how, owners, word = [], {}, [*people, *body["sanitisations"]]
    for each in word:
        due = proposed if "decision" in each else at(each.get("signed_at") or each["recorded_at"])
        how.append(f"\n  {each['account']} {each['fingerprint']}, {enrolled(each, due, owners)}")
    # 5. The claim: no higher than the checks and copies carry, in the words of its level.
    passed = {each["name"] for each in body["checks"] if each["result"] == "passed"}
    results = {each["result"] for each in body["checks"]}
    states = {each["state"] for each in body["copies"]}
    unread = "keyless" in states and "backup-sample-unreadable" not in passed
    basic = passed >= {"live-key-absent", "ciphertext-absent"}
    carried = "L3" if body["sanitisations"] else "L2"
    carried = "L1" if "live" in states or unread or results - {"passed"} else carried
    carried = "L0" if "failed" in results or "unknown" in states or not basic else carried
    need((level := body["claim"]["level"]) <= carried, "claim: above what was checked")
    need(digest([body["claim"]["sentence"], body["limits"]]) == WORDS[level], "claim: other words")
    if (since := body.get("unreviewed_recovery")) is not None:
        need(at(since["since"]) <= issued, "recovery: after the certificate")
        how.append(f"\nA quorum was restored by recovery on {since['since']}; not reviewed yet")
    return f"Verified: certificate {body['certificate_id']}, claim {level}, signed by{''.join(how)}"


if __name__ == "__main__":
    try:
        with open(sys.argv[1], "rb") as file:
            print(verify(file.read(), sys.argv[2:]))
    except Exception as error:  # noqa: BLE001  whatever is wrong with it, it is not verified
        sys.exit(f"NOT VERIFIED: {error or type(error).__name__}")
