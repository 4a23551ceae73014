"""Webhooks: signed, in the ledger's order, at least once, and without a name or content."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from gateway.config import WebhookSection
from gateway.core.inspection.proving import Proving
from gateway.core.intake.alignment import Judged
from gateway.core.notices.composing import json_schema
from gateway.core.notices.follow import PAGE, follow, prepare
from gateway.courier.webhooks import signature
from gateway.wire.messages import Classification, Scan
from tests.support.hook_sink import HookSink
from tests.support.house import replaced
from tests.support.mail_sink import certificate
from tests.support.notices import mail, outcomes, rows, tick, told_house
from vault.catalogue.states import Proof

VIRUS = [Scan("yara", "found", detail="Test.Signature")]
SCHEMA = Path(__file__).parents[2] / "docs" / "webhook.schema.json"


@pytest.fixture
def hook(tmp_path):
    with HookSink(tmp_path / "hook") as running:
        yield running


@pytest.fixture
async def house(tmp_path, hook):
    section = WebhookSection(name="duty", url=hook.url, secret=str(hook.secret))
    made = await told_house(tmp_path / "house", None, section)
    yield made
    await made.end()


def test_the_signature_is_that_of_the_specification():
    """The example of the reference implementations of Standard Webhooks (MIT licence)."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_schema_in_the_documentation_is_that_of_the_code():
    assert json_schema() == SCHEMA.read_bytes()


async def test_events_come_in_order_signed_and_without_a_name(house, hook):
    reviewed = await house.upload("/inbox/secret name.bin", b"a")
    await house.judge()
    bad = await house.upload("/inbox/other name.bin", b"b")
    await house.judge(scans=VIRUS)
    await house.filed("accepted.pdf")  # nobody has to act
    await tick(house)
    assert hook.wrong == []
    assert [(event["type"], event["data"]["subject"]) for event in hook.events] == [
        ("notice.review", reviewed),
        ("notice.quarantine", bad),
    ]
    assert [event["data"]["urgent"] for event in hook.events] == [False, True]
    entries = [event["data"]["entry"] for event in hook.events]
    assert entries == sorted(entries)
    assert hook.events[1]["data"]["roles"] == ["officer"]
    assert hook.events[0]["data"]["command"] == "strongroom document list --state REVIEW"
    assert "name" not in json.dumps(hook.events)
    assert set(outcomes(house)) == {"sent"}


async def test_a_mail_put_aside_because_its_sender_proved_nothing_is_told(house, hook):
    message = await mail(house, Proof.WAITING)
    proving = Proving(house.wings.intake, house.queue)
    await house.core.write(lambda tx: proving._record(tx, message, Judged(Proof.FAILED, "x")))
    proven = await mail(house, Proof.WAITING, data=b"From: y\r\n\r\nother\r\n")
    await house.core.write(lambda tx: proving._record(tx, proven, Judged(Proof.DKIM, "x")))
    await tick(house)
    (event,) = hook.events
    assert (event["type"], event["data"]["subject"]) == ("notice.quarantine", message)
    assert (event["data"]["kind"], event["data"]["urgent"]) == ("message.judged", False)
    assert event["data"]["client"] != ""


@pytest.mark.parametrize("status", [400, 410, 500, 302])
async def test_whatever_is_no_2xx_is_tried_again_and_keeps_the_order(house, hook, status):
    hook.status = status
    for name in ("a", "b"):
        await house.upload(f"/inbox/{name}.bin", name.encode())
        await house.judge()
    await tick(house)
    assert (
        len(hook.attempts) == 1
    )  # the first one holds up the second, and no redirection is followed
    (target,) = (await house.act("status"))["notices"]["targets"]
    assert (target["behind"], target["waiting"]) == (True, 2)
    assert str(status) in target["failure"]
    hook.status = 200
    await tick(house, minutes=1)
    first, again, second = [event_id for event_id, _ in hook.attempts]
    assert first == again != second
    assert len(hook.events) == 2


async def test_one_that_says_nothing_gets_the_same_event_again(house, hook):
    hook.drop = True
    await house.upload("/inbox/a.bin", b"a")
    await house.judge()
    await tick(house)
    hook.drop = False
    await tick(house, minutes=1)
    assert hook.ids[0] == hook.ids[1]
    assert hook.events[0] == hook.events[1]
    assert hook.wrong == []


async def test_a_webhook_that_is_down_for_five_days_loses_what_is_older_and_gets_the_rest(
    house, hook
):
    hook.status = 503
    await house.upload("/inbox/a.bin", b"a")
    await house.judge()
    await tick(house)
    await tick(house, minutes=4 * 24 * 60)
    await house.upload("/inbox/b.bin", b"b")
    await house.judge()
    await tick(house, minutes=2 * 24 * 60)
    assert outcomes(house) == ["given-up", "waiting"]
    hook.status = 200
    await tick(house, minutes=120)
    assert outcomes(house) == ["given-up", "sent"]


async def test_the_ledger_is_followed_page_by_page_and_nothing_is_noted_twice(house, hook):
    def fill(tx):
        for _ in range(PAGE * 2 + 7):
            house.core.record(
                tx, "document.inspected", "x", "core", house.clock(), outcome="REVIEW", reason=""
            )

    house.core.store.catalogue.write(fill)
    await follow(house.wings.notices)
    assert len(rows(house)) == PAGE * 2 + 7
    house.wings.notices.position = None  # as a start finds it
    await follow(house.wings.notices)
    assert len(rows(house)) == PAGE * 2 + 7
    assert [row.entry for row in rows(house)] == sorted(row.entry for row in rows(house))


async def test_a_condition_is_told_when_it_has_lasted_and_once(tmp_path, hook):
    section = WebhookSection(name="duty", url=hook.url, secret=str(hook.secret))
    house = await told_house(tmp_path / "behind", None, section)
    days = house.config.keys.max_root_age_days
    await tick(house, minutes=(timedelta(days=days - 29)).total_seconds() / 60)
    assert hook.events == []
    await tick(house, minutes=9)
    assert hook.events == []
    await tick(house, minutes=2)
    await tick(house, minutes=60)
    assert [(each["type"], each["data"]["subject"]) for each in hook.events] == [
        ("notice.expiry", "root key")
    ]
    (standing,) = (await house.act("status"))["conditions"]
    assert standing["subject"] == "root key"
    house.core.config = replaced(house.config, "keys.max_root_age_days", 0)
    await tick(house)
    assert (await house.act("status"))["conditions"] == []
    assert len(hook.events) == 1
    await house.end()


async def test_where_nobody_is_told_any_more_no_condition_grows_stale(house):
    days = house.config.keys.max_root_age_days
    await tick(house, minutes=days * 24 * 60)
    await tick(house, minutes=11)
    assert len((await house.act("status"))["conditions"]) == 1
    house.core.config = msgspec.structs.replace(house.core.config, webhook=[])
    await prepare(house.wings.notices)
    assert (await house.act("status"))["conditions"] == []


async def test_a_certificate_near_its_end_and_a_check_that_found_something_are_told(tmp_path, hook):
    section = WebhookSection(name="duty", url=hook.url, secret=str(hook.secret))
    house = await told_house(tmp_path / "near", None, section)
    crt, _ = certificate(tmp_path, days=20, begun=house.clock())
    house.core.config = replaced(house.core.config, "smtp.tls_certificate", str(crt))
    blob = await house.filed("a.pdf")
    for path in (house.folder / "vault" / "blobs").rglob(blob):
        path.unlink()
    found = await house.act("check")
    assert found["findings"]
    await tick(house)
    await tick(house, minutes=11)
    told = {(each["type"], each["data"]["subject"], each["data"]["urgent"]) for each in hook.events}
    assert told == {
        ("notice.check", "store", True),
        ("notice.expiry", "tls certificate", False),
    }
    assert all(datetime.fromisoformat(each["timestamp"]).tzinfo for each in hook.events)
    await house.end()


@pytest.mark.parametrize("text", ["", "whsec_", "c2hvcnQ=", "not base64!"])
async def test_a_secret_that_is_none_sends_nothing_and_says_so(house, hook, text):
    hook.secret.write_text(text)
    await house.upload("/inbox/a.bin", b"a")
    await house.judge(classification=Classification("invoice", 0.5, None))
    await tick(house)
    assert hook.attempts == []
    assert "secret" in rows(house)[0].failure
    assert "c2hvcnQ" not in rows(house)[0].failure
