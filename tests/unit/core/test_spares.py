"""Files made ahead of need: in the order of their ids, never stale, never left behind."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

from gateway.core.intake.spares import KEPT, OLDEST, Spares


def taken(spares, now):
    document_id, descriptor = spares.take(now)
    os.close(descriptor)
    return document_id


def filled(house, spares):
    for _ in range(500):
        if len(spares._made) == KEPT:
            return
        time.sleep(0.01)
    raise AssertionError(f"expected {KEPT} files, found {len(spares._made)}")


def test_ids_come_in_order_whoever_asks_and_whoever_makes(house):
    spares = Spares(house.core)
    now = house.core.now()
    ids = [taken(spares, now) for _ in range(200)]
    assert ids == sorted(set(ids))
    with ThreadPoolExecutor(4) as pool:
        more = list(pool.map(lambda _: taken(spares, now), range(200)))
    assert len(set(more)) == 200
    assert min(more) > max(ids)
    spares.close()
    for each in [*ids, *more]:
        assert house.core.store.blobs.discard(each)
    assert house.spooled() == []


def test_one_that_waited_too_long_is_removed_and_a_new_one_given(house):
    spares = Spares(house.core)
    now = house.core.now()
    first = taken(spares, now)
    filled(house, spares)
    old = {document_id for _, document_id, _ in spares._made}
    house.clock.advance(seconds=OLDEST.total_seconds() + 1)
    late = taken(spares, house.core.now())
    assert late not in old
    spares.close()
    assert set(house.spooled()) == {first, late}


def test_what_nobody_took_is_removed_at_the_end(house):
    spares = Spares(house.core)
    mine = taken(spares, house.core.now())
    filled(house, spares)
    spares.close()
    assert house.spooled() == [mine]
