"""A certificate says of each backup what was found when it was fetched and tried, and no more."""

from __future__ import annotations

import json

from gateway.core.disposal import certificates
from tests.scenarios.test_backup_drill import NOTE, Drill, drill
from vault.certificate.verify import verify_certificate

__all__ = ["drill"]

CHECK = "backup-sample-unreadable"


async def newest(house: Drill) -> dict:
    (batch,) = await house.act("disposal.list")
    shown = await house.act("certificate.show", id=batch["certificate"])
    report = verify_certificate(shown["json"].encode(), shown["vkeys"])
    assert report.passed, report
    return json.loads(shown["json"])["body"]


def outcome(body: dict) -> dict:
    return next(check for check in body["checks"] if check["name"] == CHECK)


async def test_a_backup_from_before_is_fetched_and_tried_and_listed_as_keyless(drill):
    await drill.filed("note.txt", b"note", NOTE)
    await drill.filed("kept.xml", b"kept")
    await drill.back_up()
    await drill.destroy()
    body = await newest(drill)
    assert outcome(body)["result"] == "passed"
    assert "wrapped keys of 1 of 1 documents in it" in outcome(body)["detail"]["en"]
    assert [(copy["kind"], copy["state"]) for copy in body["copies"]] == [("backup", "keyless")]
    assert body["claim"]["level"] == "L2"


async def test_a_backup_that_can_not_be_fetched_keeps_the_claim_down_until_it_can(
    drill, monkeypatch
):
    monkeypatch.setattr(certificates, "BACKUP_RETRY", 0.0)
    await drill.filed("note.txt", b"note", NOTE)
    await drill.back_up()
    away = drill.place.with_name("unmounted")
    drill.place.rename(away)
    drill.place.mkdir()
    await drill.destroy()
    before = await newest(drill)
    assert outcome(before)["result"] == "not_checked"
    assert before["claim"]["level"] == "L1"
    drill.place.rmdir()
    away.rename(drill.place)
    assert len(await drill.carried(certificates.follow_up(drill.wings.disposal))) == 1
    after = await newest(drill)
    assert outcome(after)["result"] == "passed"
    assert (after["claim"]["level"], after["follows"]) == ("L2", before["certificate_id"])
