"""What the agent asks of an S3 server: idle, under light and under heavy load, catching up, and while
it waits beside another one. Requests are counted by the agents' own metrics; the figures an hour are
printed (pytest -s)."""
import re
import time

import pytest

import lab
from test_backup import durable, follow
from test_stream import write_wal

KINDS = ("put", "get", "head", "list", "delete")
INDEX = 32  # for an update of the index, which comes with every 16th segment
BUSY_SEGMENTS = 147 * 10**6 / (16 << 20) * 3600  # an hour at 147 MB/s


def metrics(wa):
    return {m[0]: float(m[1]) for m in re.findall(r"^(walagent_\S+) (\S+)$", wa.http("/metrics")[1], re.M)}


class Count:
    """What was asked, archived and elapsed since it was made."""

    def __init__(self, wa):
        self.wa, self.before, self.at = wa, metrics(wa), time.monotonic()

    def stop(self):
        now = metrics(self.wa)
        self.seconds = time.monotonic() - self.at

        def grown(name):
            return int(now.get(name, 0) - self.before.get(name, 0))
        self.kinds = {k: grown('walagent_store_requests_total{kind="%s"}' % k) for k in KINDS}
        self.all = sum(self.kinds.values())
        self.segments = grown("walagent_segments_archived_total")
        self.chunks = grown("walagent_chunks_archived_total")
        return self

    def say(self, what, factor):
        print("\n%s: %d segments, %d chunks, %s; an hour: %s" % (
            what, self.segments, self.chunks, self.kinds,
            {k: round(n * factor) for k, n in self.kinds.items()}))


@pytest.fixture
def streaming(make_pg, make_walagent, s3_repository):
    pg = make_pg(wal_segsize=1, autovacuum="off", bgwriter_lru_maxpages="0")
    pg.sql("CREATE TABLE t (i int)")
    wa = follow(make_walagent(s3_repository, pg))
    durable(wa, pg)
    return pg, wa


def until_quiet(pg, wa):
    """Nothing is written by the server itself, and all is durable."""
    durable(wa, pg)
    seen = [None]

    def still():
        now = (pg.lsn(), metrics(wa)["walagent_durable_lsn_bytes"])
        same, seen[0] = now == seen[0], now
        time.sleep(1.5)
        return same
    lab.wait_until(still, 60, "the server is idle")


def while_idle(pg, wa, counted, seconds):
    """What `counted` asks while the server writes nothing. Of itself it writes for the last time up to
    15 s after anything else did."""
    pg.sql("CHECKPOINT")
    for _ in range(4):
        until_quiet(pg, wa)
        lab.wait_until(lambda: quiet_for(counted, 4), 60, "it has seen the tip")
        at, idle = pg.lsn(), Count(counted)
        time.sleep(seconds)
        idle.stop()
        if pg.lsn() == at:
            return idle
    raise AssertionError("the database was not idle")


def test_an_idle_database_costs_nothing_and_a_commit_one_request(streaming):
    pg, wa = streaming
    idle = while_idle(pg, wa, wa, 12)  # longer than anything that is done periodically
    assert idle.all == 0, idle.kinds
    light = Count(wa)
    for n in range(10):
        pg.sql("INSERT INTO t VALUES (1)")
        durable(wa, pg)
    light.stop()
    assert light.segments <= 1 and light.chunks <= 11 + light.seconds // 15  # the server's own
    assert light.all <= light.chunks + 3 * (1 + light.segments), light.kinds
    idle.say("idle", 3600 / idle.seconds)
    light.say("light load: a commit each second", 3600 / 10)


def test_heavy_load_takes_few_requests_a_segment(streaming):
    pg, wa = streaming
    write_wal(pg, 2)
    durable(wa, pg)
    heavy = Count(wa)
    for _ in range(12):
        write_wal(pg, 4)
    pg.switch_wal()
    durable(wa, pg)
    heavy.stop()
    assert heavy.segments >= 40
    # the segment, the look whether it still is ours to write, the look before its first chunk
    assert heavy.all <= 3 * heavy.segments + heavy.chunks + INDEX * (heavy.segments // 16 + 2), heavy.kinds
    assert heavy.kinds["list"] <= heavy.segments + INDEX * (heavy.segments // 16 + 2), heavy.kinds
    assert heavy.kinds["get"] <= INDEX // 4 * (heavy.segments // 16 + 2), heavy.kinds
    heavy.say("heavy load: 147 MB/s in segments of 16 MiB", BUSY_SEGMENTS / heavy.segments)


def test_catching_up_takes_two_requests_a_segment(streaming):
    pg, wa = streaming
    wa.stop()
    for _ in range(12):
        write_wal(pg, 4)
    pg.switch_wal()
    wa.start()
    caught = Count(wa)
    caught.before = {}
    durable(wa, pg)
    caught.stop()
    assert caught.segments >= 40
    start = 40  # what a start takes
    assert caught.all <= 2 * caught.segments + INDEX * (caught.segments // 16 + 2) + start, caught.kinds
    caught.say("catching up: 147 MB/s in segments of 16 MiB", BUSY_SEGMENTS / caught.segments)


def test_an_agent_that_waits_asks_nothing_while_the_server_is_idle(streaming, make_walagent,
                                                                  s3_repository):
    pg, wa = streaming
    other = make_walagent(s3_repository, pg).start()
    lab.wait_until(lambda: metrics(other).get('walagent_stream_state{state="waiting"}') == 1, 30,
                   "the other one waits")
    idle = while_idle(pg, wa, other, 8)
    assert idle.all == 0, idle.kinds
    busy = Count(other)
    for _ in range(16):
        pg.sql("INSERT INTO t VALUES (1)")
        time.sleep(0.5)
    busy.stop()
    assert busy.kinds["put"] == 0
    assert 0 < busy.all <= 20 * (busy.seconds / 3.3 + 2), busy.kinds
    assert metrics(other)['walagent_stream_state{state="waiting"}'] == 1
    busy.say("waiting beside a writer under load", 3600 / busy.seconds)


def quiet_for(wa, seconds):
    count = Count(wa)
    time.sleep(seconds)
    return count.stop().all == 0
