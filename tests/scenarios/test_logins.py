"""Logins before a core in this process, under a clock the test sets: factors, limits, penalties, host keys."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import itertools
import os
import threading
import time
from datetime import timedelta

import argon2
import pyotp
import pytest
from sqlalchemy import event, select

from gateway.core import schedule, steps
from gateway.core.login import accounts, host_keys, passwords, ssh_keys, throttle
from gateway.core.login.accounts import login_statement
from gateway.core.login.host_keys import HostKeys
from gateway.core.login.passwords import WORKERS
from gateway.core.sessions.sftp import SftpSession
from gateway.errors import Refusal, WireError
from gateway.wire.messages import (
    AuthenticateCode,
    AuthenticateKey,
    AuthenticatePassword,
    Farewell,
    Greet,
    ProveHostKeys,
    SignExchange,
    Stat,
)
from tests.support.house import START, House, ask
from tests.support.wire import transcript
from vault.catalogue import ledger
from vault.catalogue.schema import login_lanes, login_sources
from vault.crypto import sshsig
from vault.errors import StorageFull
from vault.keys.open_keyrings import HOUSE

SECRET = "correct horse battery"
OFFICE, HOME = "192.0.2.1", "198.51.100.9"


NEW_HOST_KEYS = ssh_keys.new_host_keys


@functools.cache
def made_keys(number: int = 0) -> dict[str, bytes]:
    """Host keys, made once for all tests: RSA takes long."""
    return NEW_HOST_KEYS()


@pytest.fixture
async def make(tmp_path):
    """Makes a house with host keys and accounts, under some login policy."""
    made = []

    async def make(**login) -> House:
        house = House(tmp_path, **{f"login.{key}": value for key, value in login.items()})
        made.append(house)
        custody = house.core.store.custody
        custody.keyring(HOUSE).secrets.update(made_keys())
        await house.core.write(lambda tx: custody.save(tx.connection, HOUSE, START))
        await house.settle()
        return house

    yield make
    for house in made:
        await house.end()


class Door:
    """One connection of the sftp door, without a socket."""

    def __init__(self, house: House, peer: str = OFFICE) -> None:
        self.house = house
        self.session = SftpSession(house.wings.intake, house.wings.logins)
        self.ended = False
        self.session.hang_up = self._end
        self.session_id = b""
        self.peer = peer

    def _end(self) -> None:
        self.ended = True

    async def open(self) -> Door:
        greeting, _ = await ask(self.session, Greet(self.peer))
        await self.exchange(transcript(greeting))
        return self

    async def exchange(self, transcript: bytes, algorithm: str = "ssh-ed25519") -> None:
        await ask(self.session, SignExchange(transcript, algorithm))
        self.session_id = self.session_id or hashlib.sha256(transcript).digest()

    async def key(self, user: str, signer: str = "", *, signed: bool = True) -> str:
        private = self.house.keys[signer or user]
        blob = base64.b64decode(sshsig.public_line(private).split()[1])
        statement = login_statement(self.session_id, user, "ssh-ed25519", blob)
        signature = ssh_keys.string(b"ssh-ed25519") + ssh_keys.string(private.sign(statement))
        return await self._ask(
            AuthenticateKey(user, "ssh-ed25519", blob, signature if signed else None)
        )

    async def password(self, user: str, password: str) -> str:
        return await self._ask(AuthenticatePassword(user, password))

    async def code(self, user: str, code: str) -> str:
        return await self._ask(AuthenticateCode(user, code))

    async def _ask(self, request) -> str:
        answer, _ = await ask(self.session, request)
        return answer.outcome


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Delays are asserted where they are the matter; elsewhere nobody waits for them."""
    monkeypatch.setattr("gateway.core.login.throttle.DELAY", 0.001)
    monkeypatch.setattr("gateway.core.login.throttle.DELAY_MAX", 0.01)
    monkeypatch.setattr("gateway.core.login.throttle.DELAY_PENALISED", 0.01)
    monkeypatch.setattr("gateway.core.login.login.KEY_DELAY", 0.001)
    monkeypatch.setattr(ssh_keys, "RSA_HOST_BITS", 3072)
    fresh = itertools.count(1)
    monkeypatch.setattr(ssh_keys, "new_host_keys", lambda: made_keys(next(fresh)))
    # What one check costs is no matter here; that it is one, and how many at once, is.
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", cheap)
    passwords._decoy.cache_clear()


async def enrol(house: House, name: str, *, by: str = "") -> pyotp.TOTP:
    data = await house.act("account.totp", by, name=name)
    return pyotp.parse_uri(data["totp_uri"])


def code_of(house: House, totp: pyotp.TOTP) -> str:
    return totp.at(house.clock())


def entries(house: House, kind: str) -> list[dict]:
    def look(connection):
        found = []
        for index in range(house.core.store.catalogue.ledger.size):
            entry = ledger.msgspec.json.decode(ledger.entry(connection, index))
            if entry["kind"] == kind:
                found.append(entry)
        return found

    return house.core.store.catalogue.read(look)


# ── factors ──


async def test_staff_needs_a_key_and_a_code_and_a_client_one_factor(make):
    house = await make()
    door = await Door(house).open()
    assert await door.key("acme") == "granted"
    # An auditor without a code can't get in, with the right key, and no word says why.
    door = await Door(house).open()
    assert await door.key("auditor", signed=False) == "acceptable"
    assert await door.key("auditor") == "failed"
    listed = {each["name"]: each["lacks"] for each in await house.act("account.list")}
    assert listed["auditor"] == ["a one-time code"]
    assert listed["acme"] == []
    # Enrolled, it can.
    totp = await enrol(house, "auditor")
    door = await Door(house).open()
    assert await door.key("auditor") == "partial"
    with pytest.raises(WireError):
        await ask(door.session, Stat("/"))
    assert await door.code("auditor", code_of(house, totp)) == "granted"


async def test_a_password_alone_or_with_a_code_is_no_key(make):
    """Under "key+code" a right password is as wrong as any other."""
    house = await make()
    await house.act("account.password", name="accountant", password=SECRET)
    totp = await enrol(house, "accountant")
    door = await Door(house).open()
    assert await door.password("accountant", SECRET) == "failed"
    assert await door.code("accountant", code_of(house, totp)) == "failed"
    assert await door.key("accountant") == "partial"


async def test_a_code_is_good_once_and_one_of_the_former_secret_not_at_all(make):
    house = await make()
    totp = await enrol(house, "auditor")
    first = code_of(house, totp)
    door = await Door(house).open()
    await door.key("auditor")
    assert await door.code("auditor", first) == "granted"
    again = await Door(house).open()
    await again.key("auditor")
    assert await again.code("auditor", first) == "failed"
    house.clock.advance(seconds=90)
    fresh = await enrol(house, "auditor")
    assert door.ended  # whoever has the old secret may be the reason
    assert await again.code("auditor", code_of(house, totp)) == "failed"
    assert await again.code("auditor", code_of(house, fresh)) == "granted"


async def test_two_connections_with_one_code_at_once_get_one_login(make):
    house = await make()
    totp = await enrol(house, "auditor")
    doors = [await Door(house).open() for _ in range(5)]
    for door in doors:
        assert await door.key("auditor") == "partial"
    code = code_of(house, totp)
    outcomes = await asyncio.gather(*(door.code("auditor", code) for door in doors))
    assert sorted(outcomes) == ["failed"] * 4 + ["granted"]


async def test_a_code_without_a_first_factor_is_wrong_even_if_it_is_right(make):
    house = await make()
    totp = await enrol(house, "auditor")
    door = await Door(house).open()
    await door.key("auditor", signed=False)
    assert await door.code("auditor", code_of(house, totp)) == "failed"


async def test_a_code_or_password_for_an_officer_takes_an_officers_signature(make):
    house = await make()
    for act, more in (("account.totp", {}), ("account.password", {"password": SECRET})):
        with pytest.raises(Refusal, match="expected the signature of one"):
            await house.act(act, name="officer1", **more)
        with pytest.raises(Refusal, match="expected its own signature"):
            await house.act(act, "officer2", name="officer1", **more)
        await house.act(act, "officer1", name="officer1", **more)
        with pytest.raises(Refusal, match="expected an officer's"):
            await house.act(act, "officer2", name="acme", **more)


@pytest.mark.parametrize(
    ("first", "change"),
    [
        ("key", "key removed"),
        ("password", "password changed"),
        ("password", "password taken"),
        ("key", "code enrolled anew"),
        ("key alone", "code enrolled"),
    ],
)
async def test_a_factor_that_was_taken_back_before_the_login_was_recorded_is_none(
    make, monkeypatch, first, change
):
    """Between the first factor and the code, or between the last check and the record."""
    house = await make(client="any")

    async def take_back():
        blob = base64.b64decode(sshsig.public_line(house.keys["acme"]).split()[1])
        match change:
            case "key removed":
                mark = ssh_keys.fingerprint(blob)
                await house.act("account.key", name="acme", remove=mark)
            case "password changed":
                await house.act("account.password", name="acme", password=SECRET + "!")
            case "password taken":
                await house.act("account.password", name="acme", password="")
            case _:
                await enrol(house, "acme")

    async def prove(door):
        return await (door.password("acme", SECRET) if first == "password" else door.key("acme"))

    await house.act("account.password", name="acme", password=SECRET)
    totp = None if first == "key alone" else await enrol(house, "acme")
    admit = SftpSession._admit

    async def late(session, account):
        await take_back()
        return await admit(session, account)

    # In the very moment before the record.
    door = await Door(house).open()
    if totp is not None:
        assert await prove(door) == "partial"
    with monkeypatch.context() as patch:
        patch.setattr(SftpSession, "_admit", late)
        outcome = prove(door) if totp is None else door.code("acme", code_of(house, totp))
        assert await outcome == "failed"
    with pytest.raises(WireError):
        await ask(door.session, Stat("/"))
    await house.wings.logins.records.flush(house.core, house.clock(), last=True)
    found = [entry["facts"] for entry in entries(house, "login.failed")]
    assert found == [{"why": "factor", "count": 1}]
    assert not entries(house, "session.opened")


async def test_a_key_removed_before_the_code_comes_is_no_factor_any_more(make):
    house = await make()
    totp = await enrol(house, "accountant")
    door = await Door(house).open()
    assert await door.key("accountant") == "partial"
    blob = base64.b64decode(sshsig.public_line(house.keys["accountant"]).split()[1])
    await house.act("account.key", name="accountant", remove=ssh_keys.fingerprint(blob))
    assert await door.code("accountant", code_of(house, totp)) == "failed"


# ── key exchanges ──


async def test_what_a_user_signed_on_one_connection_is_worth_nothing_on_another(make):
    """A door that was taken over keeps exchange and signature of a login; not after a restart either."""
    house = await make()

    async def replayed(exchange, cookie):
        again = Door(house)
        greeting, _ = await ask(again.session, Greet(OFFICE))
        assert greeting.cookie != cookie
        with pytest.raises(WireError, match="expected this connection's cookie"):
            await again.exchange(exchange)
        with pytest.raises(WireError, match="found it out of order"):
            await again.key("acme")
        # With the cookie put where it is looked for, it is another session, and the signature is of the old.
        other = exchange.replace(cookie, greeting.cookie)
        await ask(again.session, SignExchange(other, "ssh-ed25519"))
        again.session_id = hashlib.sha256(exchange).digest()
        assert await again.key("acme") == "failed"

    door = Door(house)
    greeting, _ = await ask(door.session, Greet(OFFICE))
    exchange = transcript(greeting)
    await door.exchange(exchange)
    assert await door.key("acme") == "granted"
    cookie = greeting.cookie
    await replayed(exchange, cookie)
    house.restart()
    await replayed(exchange, cookie)


async def test_nothing_is_signed_but_an_exchange_with_the_host_key_it_is_signed_with(make):
    house = await make()
    greeting, _ = await ask(Door(house).session, Greet(OFFICE))
    good = transcript(greeting)
    blobs = {key.algorithm: key.blob for key in greeting.host_keys}
    wrong = [
        (b"", "ssh-ed25519"),
        (os.urandom(32), "ssh-ed25519"),
        (good[:-1], "ssh-ed25519"),
        (good + b"x", "ssh-ed25519"),
        (good + ssh_keys.string(b"x"), "ssh-ed25519"),
        (good, "rsa-sha2-512"),
        (good, "ssh-dss"),
        (good.replace(b"\x14" + greeting.cookie, b"\x15" + greeting.cookie), "ssh-ed25519"),
        (transcript(greeting, bytes(16)), "ssh-ed25519"),
    ]
    for exchange, algorithm in wrong:
        door = Door(house)
        again, _ = await ask(door.session, Greet(OFFICE))
        with pytest.raises(WireError, match="key exchange: expected"):
            await door.exchange(exchange.replace(greeting.cookie, again.cookie), algorithm)
    # The RSA key signs what names it, in the algorithm that was asked for.
    door = Door(house)
    again, _ = await ask(door.session, Greet(OFFICE))
    exchange = transcript(again).replace(
        ssh_keys.string(blobs["ssh-ed25519"]), ssh_keys.string(blobs["ssh-rsa"])
    )
    reply, _ = await ask(door.session, SignExchange(exchange, "rsa-sha2-256"))
    digest = hashlib.sha256(exchange).digest()
    assert ssh_keys.verify("rsa-sha2-256", blobs["ssh-rsa"], reply.signature, digest)


async def test_a_connection_has_one_key_exchange_before_its_login_and_few_a_minute_after_it(
    make, monkeypatch
):
    house = await make()

    async def renewed(door, greeting):
        """How often keys can be renewed before the connection ends."""
        for number in range(1000):
            try:
                await door.exchange(transcript(greeting, os.urandom(16)))
            except WireError:
                return number
        raise AssertionError("expected an end, found none")

    seconds = 1000.0
    monkeypatch.setattr("gateway.core.login.key_exchange.time.monotonic", lambda: seconds)
    door = Door(house)
    greeting, _ = await ask(door.session, Greet(OFFICE))
    exchange = transcript(greeting)
    await door.exchange(exchange)
    for _ in range(2):
        with pytest.raises(WireError, match="expected one before the login"):
            await door.exchange(transcript(greeting))
    assert await door.key("acme") == "granted"
    signed = await renewed(door, greeting)
    # A document of 16 GiB, renewed every 512 MiB as paramiko does, is no thousand.
    assert 32 < signed <= 60
    seconds += 60
    signed = await renewed(door, greeting)
    assert signed <= 30


async def test_rsa_signatures_keep_nobody_waiting(make, monkeypatch):
    """The host key's RSA is computed on a thread, the loop goes on."""
    house = await make()
    threads = []
    real = ssh_keys.HostKeyPair.sign

    def sign(pair, algorithm, data):
        threads.append((algorithm, threading.get_ident()))
        return real(pair, algorithm, data)

    monkeypatch.setattr(ssh_keys.HostKeyPair, "sign", sign)
    door = Door(house)
    greeting, _ = await ask(door.session, Greet(OFFICE))
    blobs = {key.algorithm: key.blob for key in greeting.host_keys}
    exchange = transcript(greeting).replace(
        ssh_keys.string(blobs["ssh-ed25519"]), ssh_keys.string(blobs["ssh-rsa"])
    )
    await door.exchange(exchange, "rsa-sha2-512")
    assert await door.key("acme") == "granted"
    await ask(door.session, ProveHostKeys(list(blobs.values())))
    assert [algorithm for algorithm, _ in threads] == [
        "rsa-sha2-512", "ssh-ed25519", "rsa-sha2-512",
    ]  # fmt: skip
    assert threading.get_ident() not in {ident for _, ident in threads}


async def test_a_changed_password_ends_sessions_and_the_old_one_with_them(make):
    house = await make()
    await house.act("account.password", name="acme", password=SECRET)
    door = await Door(house).open()
    assert await door.password("acme", SECRET) == "granted"
    await house.act("account.password", name="acme", password=SECRET + "!")
    assert door.ended
    door = await Door(house).open()
    assert await door.password("acme", SECRET) == "failed"
    assert await door.password("acme", SECRET + "!") == "granted"
    await house.act("account.password", name="acme", password="")
    door = await Door(house).open()
    assert await door.password("acme", SECRET + "!") == "failed"


# ── limits ──


async def test_limits_refuse_a_login_in_the_words_of_a_wrong_secret_and_the_ledger_knows(make):
    house = await make(time_zone="Asia/Shanghai")  # START is a Sunday, 16:00 there
    for limits, why in (
        ({"expires": "2026-11-21"}, "expired"),
        ({"expires": "", "networks": ["198.51.100.0/24"]}, "network"),
        ({"networks": [], "hours": "Mon-Fri 08:00-19:00"}, "hours"),
    ):
        await house.act("account.change", name="acme", **limits)
        door = await Door(house).open()
        assert await door.key("acme") == "failed", why
        with pytest.raises(WireError):
            await ask(door.session, Stat("/"))
    door = await Door(house, HOME).open()
    await house.act("account.change", name="acme", hours="Sun 15:00-17:00", networks=[HOME])
    assert await door.key("acme") == "granted"
    await house.wings.logins.records.flush(house.core, house.clock(), last=True)
    found = {
        (entry["facts"]["why"], entry["facts"]["count"]) for entry in entries(house, "login.failed")
    }
    assert found == {("expired", 1), ("network", 1), ("hours", 1)}


async def test_live_sessions_end_when_their_hours_or_their_account_do(make):
    """By the watch that looks every second; a session without limits goes on."""
    house = await make(time_zone="UTC")
    await house.act("account.change", name="acme", hours="Sun 07:00-09:00")
    await house.act("account.change", name="other", expires="2026-11-22")
    acme, other = await Door(house).open(), await Door(house).open()
    assert await acme.key("acme") == await other.key("other") == "granted"
    await schedule.watch_sessions(house.wings)
    assert [acme.ended, other.ended] == [False, False]
    house.clock.now = START.replace(hour=8, minute=59, second=59)
    await schedule.watch_sessions(house.wings)
    assert [acme.ended, other.ended] == [False, False]
    house.clock.advance(seconds=1)
    await schedule.watch_sessions(house.wings)
    assert acme.ended
    assert not other.ended
    house.clock.now = START.replace(day=23, hour=0)
    await schedule.watch_sessions(house.wings)
    assert other.ended
    assert schedule.WATCH_SECONDS <= 1.0  # so that it is within two


@pytest.mark.parametrize(
    ("act", "arguments"),
    [
        ("account.disable", {}),
        ("account.key", {"remove": True}),
        ("account.change", {"networks": [HOME]}),
        ("account.totp", {}),
        ("account.password", {"password": SECRET}),
    ],
)
async def test_whatever_takes_something_away_ends_the_accounts_sessions_and_no_others(
    make, act, arguments
):
    house = await make()
    mine, other = await Door(house).open(), await Door(house).open()
    await mine.key("acme")
    await other.key("other")
    if "remove" in arguments:
        blob = base64.b64decode(sshsig.public_line(house.keys["acme"]).split()[1])
        arguments["remove"] = ssh_keys.fingerprint(blob)
    await house.act(act, name="acme", **arguments)
    assert mine.ended
    assert not other.ended


# ── penalties ──


async def test_a_right_login_waits_for_no_neighbour_and_a_key_for_nobody(make, monkeypatch):
    """One source guesses at one account until nothing more is looked at; others there log in at once."""
    house = await make()
    await house.act("account.password", name="other", password=SECRET)
    for _ in range(4):
        door = await Door(house).open()
        for _ in range(6):
            assert await door.password("acme", "guess") == "failed"
    monkeypatch.setattr("gateway.core.login.throttle.DELAY_PENALISED", 3.0)
    # The account that is guessed at, by its key; and another by its password, for the first time.
    begun = time.monotonic()
    assert await (await Door(house).open()).key("acme") == "granted"
    assert time.monotonic() - begun < 2.5
    begun = time.monotonic()
    assert await (await Door(house).open()).password("other", SECRET) == "granted"
    assert time.monotonic() - begun < 2.5
    # A wrong one of the same kind waits.
    begun = time.monotonic()
    assert await (await Door(house).open()).password("stranger", SECRET) == "failed"
    assert time.monotonic() - begun >= 3.0


async def test_what_is_not_looked_at_fails_as_if_it_had_been(make):
    """The eleventh guess of a source at an account, right or wrong, and one at a name that nobody has."""
    house = await make()
    await house.act("account.password", name="acme", password=SECRET)
    for user in ("acme", "nobody"):
        for _ in range(2):
            door = await Door(house, HOME).open()
            for _ in range(5):
                assert await door.password(user, "guess") == "failed"
        door = await Door(house, HOME).open()
        assert await door.password(user, SECRET) == "failed"
    assert await (await Door(house, OFFICE).open()).password("acme", SECRET) == "granted"


async def test_penalties_survive_a_restart_and_guesses_are_not_given_anew(make):
    house = await make()

    async def guess(times):
        for _ in range(times):
            door = await Door(house, HOME).open()
            for _ in range(5):
                await door.password("acme", "guess")

    await house.act("account.password", name="acme", password=SECRET)
    assert await (await Door(house, OFFICE).open()).password("acme", SECRET) == "granted"
    await guess(3)
    await house.wings.logins.records.flush(house.core, house.clock())
    before = await house.act("penalty.list")
    assert [each["source"] for each in before] == [HOME]
    house.restart()
    assert (await house.act("status"))["penalised"] == before
    assert await (await Door(house, HOME).open()).password("acme", SECRET) == "failed"
    ruling = house.wings.logins.records.penalties.attempt(OFFICE, run_id(house), house.clock())
    assert ruling.trusted
    await house.act("penalty.lift", source=HOME)
    assert await (await Door(house, HOME).open()).password("acme", SECRET) == "granted"
    assert len(entries(house, "login.penalty_lifted")) == 1
    with pytest.raises(Refusal, match="expected a source with one"):
        await house.act("penalty.lift", source=HOME)


async def test_guesses_that_a_source_has_spent_are_not_given_anew_by_a_restart(make):
    """Not even where the source was first seen long ago."""
    house = await make()
    house.wings.logins.records.penalties.note(HOME, "silent", house.clock())
    house.clock.advance(hours=20)

    def spend():
        book = house.wings.logins.records.penalties
        seen = 0
        for number in range(300):
            seen += book.attempt(HOME, f"account-{number}", house.clock()).looked_at
            book.wrong(HOME, f"account-{number}", house.clock())
        return seen

    assert spend() == throttle.SOURCE.most
    await house.wings.logins.records.flush(house.core, house.clock())
    house.restart()
    assert spend() == 0


async def test_a_flush_that_fails_is_made_good_by_the_next(make, monkeypatch):
    """Penalties and counts; and one that is only not waited for is written once."""
    house = await make()

    async def full(work):
        del work
        raise StorageFull("catalogue: expected room, found none")

    async def work():
        for _ in range(5):
            await (await Door(house, HOME).open()).password("acme", "guess")
        core, now = house.core, house.clock()
        with monkeypatch.context() as patch:
            patch.setattr(core, "write", full)
            with pytest.raises(StorageFull):
                await house.wings.logins.records.flush(core, now, last=True)
        await (await Door(house, HOME).open()).password("acme", "guess")
        flushing = asyncio.create_task(house.wings.logins.records.flush(core, now, last=True))
        await asyncio.sleep(0)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
        await house.wings.logins.records.flush(core, now, last=True)
        assert [entry["facts"]["count"] for entry in entries(house, "login.failed")] == [6]

    await work()
    house.restart()
    assert house.wings.logins.records.penalties.sources[HOME].events["failed"] == 6
    assert house.wings.logins.records.penalties.buckets[HOME, run_id(house)].failures == 6


async def test_a_guess_that_nobody_could_check_costs_nothing(make, monkeypatch):
    """Too many wait: it fails, the log says why, and no bucket is shorter for it."""
    house = await make()

    async def busy(*_, **__):
        return None

    await house.act("account.password", name="acme", password=SECRET)
    monkeypatch.setattr(house.wings.logins.passwords, "check", busy)
    for _ in range(30):
        assert await (await Door(house, HOME).open()).password("acme", SECRET) == "failed"
    assert await house.act("penalty.list") == []
    monkeypatch.undo()
    assert await (await Door(house, HOME).open()).password("acme", SECRET) == "granted"
    await house.wings.logins.records.flush(house.core, house.clock(), last=True)
    facts = [entry["facts"] for entry in entries(house, "login.failed")]
    assert facts == [{"why": "busy", "count": 30}]


async def test_a_newcomers_first_password_is_right_in_the_middle_of_a_flood(make):
    """Forty names are guessed at from the same address, ten times each."""
    house = await make()
    await house.act("account.password", name="other", password=SECRET)
    book = house.wings.logins.records.penalties
    for number in range(40):
        who = book.unknown_user(f"name-{number}")
        for _ in range(10):
            book.attempt(OFFICE, who, house.clock())
            book.wrong(OFFICE, who, house.clock())
    assert not book.attempt(OFFICE, who, house.clock()).looked_at
    assert await (await Door(house, OFFICE).open()).password("other", SECRET) == "granted"


def run_id(house: House) -> str:
    return house.core.store.catalogue.read(lambda c: accounts.load_account(c, "acme").id)


async def test_a_flood_of_guesses_is_a_few_writes_and_one_entry_a_minute(make):
    house = await make()
    # Accounts that exist, and names that were perhaps a mistyped secret.
    size = house.core.store.catalogue.ledger.size
    for number in range(60):
        door = await Door(house, HOME).open()
        await door.password("acme" if number % 2 else f"secret-{number}", "guess")
    assert house.core.store.catalogue.ledger.size == size
    await house.wings.logins.records.flush(house.core, house.clock())
    assert house.core.store.catalogue.ledger.size == size
    house.clock.advance(seconds=61)
    await house.wings.logins.records.flush(house.core, house.clock())
    found = {entry["subject"]: entry["facts"]["count"] for entry in entries(house, "login.failed")}
    assert found == {run_id(house): 30, "unknown": 30}
    text = str(entries(house, "login.failed"))
    assert HOME not in text
    assert "secret-" not in text
    rows = house.core.store.catalogue.read(
        lambda c: (c.execute(select(login_sources)).all(), c.execute(select(login_lanes)).all())
    )
    assert len(rows[0]) == len(rows[1]) == 1


@pytest.mark.parametrize("reason", ["silent", "grace", "nonsense", None])
async def test_connections_that_never_log_in_are_noted_and_sessions_are_not(make, reason):
    house = await make()
    for _ in range(20):
        door = await Door(house, HOME).open()
        if reason is not None:
            await ask(door.session, Farewell(reason))
        await door.session.close()
    assert [each["source"] for each in await house.act("penalty.list")] == [HOME]
    for _ in range(20):
        door = await Door(house, OFFICE).open()
        await door.key("acme")
        await door.session.close()
    assert [each["source"] for each in await house.act("penalty.list")] == [HOME]


async def test_passwords_are_checked_at_one_cost_and_never_all_at_once(make, monkeypatch):
    """An unknown name, a known one and one without a password: each exactly one argon2id."""
    house = await make()
    checks, inside, most = [], 0, 0
    real = passwords.check_password

    def counted(stored, password):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        checks.append(stored is not None)
        try:
            return real(stored, password)
        finally:
            inside -= 1

    monkeypatch.setattr(passwords, "check_password", counted)
    await house.act("account.password", name="acme", password=SECRET)
    doors = [await Door(house, f"203.0.113.{n}").open() for n in range(12)]
    users = ["acme", "nobody", "other", "auditor"]
    await asyncio.gather(*(door.password(users[n % 4], "guess") for n, door in enumerate(doors)))
    assert len(checks) == 12
    assert most <= WORKERS


# ── host keys ──


async def serving(house: House) -> dict[str, str]:
    status = await house.act("keys.host")
    return {each["type"]: each["fingerprint"] for each in status["in_use"]}


async def test_new_host_keys_are_announced_for_their_period_and_then_used(make):
    house = await make()
    old = await serving(house)
    await house.act("keys.rotate", what="host")
    status = (await house.act("keys.status"))["host"]
    new = {each["type"]: each["fingerprint"] for each in status["announced"]}
    assert await serving(house) == old
    assert set(new) == {"ssh-ed25519", "ssh-rsa"}
    assert not set(new.values()) & set(old.values())
    with pytest.raises(Refusal, match="expected no change under way"):
        await house.act("keys.rotate", what="host")
    house.clock.now = START + timedelta(days=30, microseconds=-1)
    assert not await host_keys.due(house.wings.logins.host_keys)
    house.clock.now = START + timedelta(days=30)
    assert await host_keys.due(house.wings.logins.host_keys)
    assert await serving(house) == new
    assert (await house.act("keys.host"))["announced"] == []
    assert (await house.act("keys.host"))["since"] == status["change_at"]
    # The old ones are in no keyring any more, and a restart finds the new ones.
    house.restart()
    assert await serving(house) == new
    secrets = house.core.store.custody.keyring(HOUSE).secrets
    assert not set(made_keys().values()) & set(secrets.values())
    assert [len(entries(house, kind)) for kind in ("host-keys.announced", "host-keys.changed")] == [
        1,
        1,
    ]


class Killed(BaseException):
    """The core dies here."""


@pytest.mark.parametrize("name", list(steps.HOST_STEPS))
@pytest.mark.parametrize("where", ["before", "after", "between"])
async def test_a_change_of_host_keys_goes_on_after_a_crash_at_any_point(
    make, monkeypatch, name, where
):
    """`between`: the keyring is saved and the catalogue is not."""
    house = await make()
    old = await serving(house)

    def die(step, phase):
        if step == name and phase == where:
            raise Killed

    async def work():
        await house.act("keys.rotate", what="host")
        house.clock.now = START + timedelta(days=30)
        await host_keys.due(house.wings.logins.host_keys)

    steps.observers.append(die)
    if where == "between":
        record = house.core.record

        def fail(tx, kind, *more, **facts):
            if (
                kind
                == {"host.announce": "host-keys.announced", "host.change": "host-keys.changed"}[
                    name
                ]
            ):
                raise Killed
            return record(tx, kind, *more, **facts)

        monkeypatch.setattr(house.core, "record", fail)
    try:
        with pytest.raises(Killed):
            await work()
    finally:
        steps.observers.remove(die)
        monkeypatch.undo()
    house.restart()
    # The job goes on with what was begun; what was not is asked for again.
    await host_keys.due(house.wings.logins.host_keys)
    status = await house.act("keys.host")
    if not status["announced"] and await serving(house) == old:
        await house.act("keys.rotate", what="host")
    house.clock.advance(days=61)
    while await host_keys.due(house.wings.logins.host_keys):
        pass
    status = await house.act("keys.host")
    assert status["announced"] == []
    assert status["change_at"] is None
    assert not set((await serving(house)).values()) & set(old.values())
    assert HostKeys(house.core).coming == {}


async def test_a_leaked_host_key_can_be_changed_at_once(make):
    house = await make()
    old = await serving(house)
    await house.act("keys.rotate", what="host", at_once=True)
    assert not set((await serving(house)).values()) & set(old.values())
    with pytest.raises(Refusal, match="host keys only"):
        await house.act("keys.rotate", what="ledger", at_once=True)


async def test_the_core_proves_its_own_announced_keys_and_signs_nothing_else(make):
    """Only after a login, only over its own text, only a few times."""
    house = await make()
    await house.act("keys.rotate", what="host")
    blobs = [pair.blob for pair in house.wings.logins.host_keys.announced]
    assert len(blobs) == 4

    async def proofs(door, asked):
        answer, _ = await ask(door.session, ProveHostKeys(asked))
        return answer.signatures

    door = await Door(house).open()
    with pytest.raises(WireError):
        await proofs(door, blobs)
    assert await door.key("acme") == "granted"
    for wrong in ([], [blobs[0], blobs[0]], [b"x"], [*blobs, b"y"], [blobs[0] + b"\0"]):
        other = await Door(house).open()
        await other.key("acme")
        with pytest.raises(WireError):
            await proofs(other, wrong)
    signatures = await proofs(door, blobs)
    for blob, signature in zip(blobs, signatures, strict=True):
        algorithm = ssh_keys.take_string(signature)[0].decode()
        statement = (
            ssh_keys.string(b"hostkeys-prove-00@openssh.com")
            + ssh_keys.string(door.session_id)
            + ssh_keys.string(blob)
        )
        assert ssh_keys.verify(algorithm, blob, signature, statement)
        # It is no signature over an exchange hash, which has at most 64 bytes.
        assert len(statement) > 64
    for _ in range(3):
        await proofs(door, blobs[:1])
    with pytest.raises(WireError):
        await proofs(door, blobs[:1])


async def test_under_a_clock_that_is_ahead_no_source_is_trusted_or_penalised_for_years(make):
    house = await make()
    right = house.clock()
    await house.act("account.password", name="acme", password=SECRET)
    house.core.close()
    house.clock.advance(days=15 * 365)
    house.open(believed=False)
    assert await (await Door(house).open()).password("acme", "wrong " + SECRET) == "failed"
    assert await (await Door(house).open()).password("acme", SECRET) == "granted"
    await house.wings.logins.records.flush(house.core, house.core.clock.steady())
    book = house.wings.logins.records.penalties
    (bucket,) = book.buckets.values()
    assert bucket.trusted_at is not None
    assert abs(bucket.trusted_at - right) < timedelta(minutes=10)
    (source,) = book.sources.values()
    assert source.until < right + timedelta(days=1)
    assert [each["source"] for each in (await house.act("status"))["penalised"]] == [
        name for name, _ in book.penalised(house.core.clock.steady())
    ]


async def test_an_offered_key_costs_the_same_questions_whoever_it_is_offered_for(make):
    """850 µs against 290 told which accounts there are, before anybody had signed anything."""
    house = await make()

    async def probe(user, signer):
        door = await Door(house).open()
        asked, sent = [], []
        former = house.core.read

        async def read(work):
            sent.append(work)
            return await former(work)

        def note(_connection, _cursor, statement, *_more):
            asked.append(statement)

        readers = house.core.store.catalogue._readers
        event.listen(readers, "before_cursor_execute", note)
        house.core.read = read
        try:
            private = house.keys[signer]
            blob = base64.b64decode(sshsig.public_line(private).split()[1])
            request = AuthenticateKey(user, "ssh-ed25519", blob, None)
            answer, _ = await ask(door.session, request)
        finally:
            house.core.read = former
            event.remove(readers, "before_cursor_execute", note)
        return answer, asked, len(sent)

    right = await probe("auditor", "auditor")
    wrong = await probe("auditor", "acme")
    nobody = await probe("nobody-of-that-name", "acme")
    assert right[0].outcome == "acceptable"
    assert wrong[0] == nobody[0]
    assert right[1] == wrong[1] == nobody[1]
    assert len(right[1]) > 2
    assert right[2] == wrong[2] == nobody[2] == 2
