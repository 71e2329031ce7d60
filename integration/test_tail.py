"""The unfinished segment in the bucket: what a standby gets from it, and what it must never take
from it."""
import glob
import os
import shutil
import signal

import pytest

import lab
from test_backup import durable, follow, is_ready
from test_hooks import hook, restore_command, standby_from_archive


@pytest.fixture
def streamed(make_pg, make_walagent, file_repository, work_dir):
    """A primary whose WAL only the agent archives, in chunks: no segment is ever switched."""
    lab.own(work_dir)
    pg = make_pg(autovacuum="off")
    pg.sql("CREATE TABLE t (i int)")
    wa = follow(make_walagent(file_repository, pg, settings={"archive.tail_interval": "200ms"}))
    return pg, wa


def rows(server):
    return server.value("SELECT count(*) FROM t")


def waits_to_look_again(standby):
    return standby.value("SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'") == \
        "RecoveryRetrieveRetryInterval"


def test_a_standby_fed_by_the_bucket_alone_follows_within_a_segment(streamed, make_pg, work_dir):
    pg, wa = streamed
    replica = standby_from_archive(pg, wa, make_pg, work_dir + "/replica",
                                   wal_retrieve_retry_interval="500ms")
    replica.start()
    pg.sql("INSERT INTO t SELECT generate_series(1, 100)")
    segment = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    for n in range(2, 7):
        pg.sql("INSERT INTO t SELECT generate_series(1, 100)")
        lab.wait_until(lambda: replica.is_ready() and rows(replica) == n * 100, 30,
                       "the replica follows: " + replica.log[-2000:])
    assert pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())") == segment


def test_a_promotion_brings_back_every_byte_in_the_bucket(streamed, make_pg, work_dir):
    """The replica looks into the archive once an hour; only its promotion drains it."""
    pg, wa = streamed
    replica = standby_from_archive(pg, wa, make_pg, work_dir + "/replica",
                                   wal_retrieve_retry_interval="1h")
    replica.start()
    lab.wait_until(lambda: replica.is_ready() and waits_to_look_again(replica), 30,
                   "the replica has what there is: " + replica.log[-2000:])
    behind = replica.value("SELECT pg_last_wal_replay_lsn()::text")
    for _ in range(5):
        pg.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    durable(wa, pg)
    end = pg.lsn()
    pg.kill9()
    assert replica.value("SELECT pg_last_wal_replay_lsn()::text") == behind and rows(replica) == 0
    assert replica.value("SELECT pg_promote(true, 60)")
    assert rows(replica) == 5000
    assert replica.value("SELECT pg_current_wal_lsn() >= %s::pg_lsn", end)


@pytest.mark.parametrize("guarded", [True, False], ids=["as-restore-command", "without-the-guard"])
def test_a_short_tail_takes_nothing_from_a_standby(streamed, make_pg, work_dir, guarded):
    """The standby has streamed more than the bucket holds when it is started again without its
    primary. PostgreSQL prefers the archive's file: padded after 2,000 rows, it would cost 3,000."""
    pg, wa = streamed
    unguarded = "%s && cp raw '%%p'" % hook(wa, "archive-get", "%f", "raw")
    standby = pg.standby(os.path.join(work_dir, "standby"),
                         restore_command=restore_command(wa) if guarded else unguarded)
    make_pg.adopt(standby)
    pg.sql("INSERT INTO t SELECT generate_series(1, 2000)")
    durable(wa, pg)
    standby.start().caught_up_with(pg)
    wa.kill9()
    pg.sql("INSERT INTO t SELECT generate_series(1, 3000)")
    standby.caught_up_with(pg)
    pg.kill9()
    standby.stop("immediate")
    standby.start()
    standby.promote()
    assert rows(standby) == (5000 if guarded else 2000)


def test_a_missing_newest_chunk_is_found_while_its_agent_runs(streamed):
    """Nothing in the archive tells that it was there, but the agent knows, and still has its bytes."""
    pg, wa = streamed
    pg.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    writer = pg.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'")
    os.kill(writer, signal.SIGSTOP)  # its snapshots would make the next chunk
    try:
        durable(wa, pg)
        assert wa.json("verify")["damage"] == []
        root = wa.sections["repository"]["url"][len("file://"):]
        chunk = sorted(glob.glob(root + "/%s/*/tail/*/*/*/*.zst" % wa.name))[-1]
        for path in (chunk, chunk + ".meta"):
            os.remove(path)
        damage, = wa.json("verify", check=3)["damage"]
        assert damage["kind"] == "chunk" and "the newest chunk is missing" in damage["message"]
        assert " to " + wa.json("status")["stream"]["durable_lsn"] in damage["cost"]
        assert "newest chunk" in wa.run("verify", "--wal", check=3).stdout
    finally:
        os.kill(writer, signal.SIGCONT)
    pg.switch_wal()
    durable(wa, pg)
    lab.wait_until(lambda: wa.json("verify", check=(0, 3))["damage"] == [], 30, "the agent heals it")


def test_a_missing_newest_segment_is_archived_again_from_the_servers_wal(streamed):
    """The agent has it no more; the server may, and the agent asks it for what the archive lacks when it
    starts."""
    pg, wa = streamed
    pg.switch_wal()
    pg.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    segment = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    root = wa.sections["repository"]["url"][len("file://"):]
    pg.switch_wal()
    pg.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    durable(wa, pg)
    named = root + "/%s/**/%s*" % (wa.name, segment)
    lab.wait_until(lambda: [p for p in glob.glob(named, recursive=True) if "/wal/" in p], 30,
                   "the segment is archived")
    lab.wait_until(lambda: wa.json("verify")["damage"] == [], 30, "nothing is missing")
    for path in glob.glob(named, recursive=True):
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    told = [d for d in wa.json("verify", check=3)["damage"] if d["object"] == segment and
            d["kind"] == "segment"]
    assert len(told) == 1 and "restart the agent" in told[0]["message"]
    assert "still has it" not in told[0]["message"]
    wa.stop()
    wa.start(ready=False)
    lab.wait_until(lambda: is_ready(wa), 30, "the agent streams")
    durable(wa, pg)
    lab.wait_until(lambda: wa.json("verify", check=(0, 3))["damage"] == [], 60, "the agent heals it")
    assert [p for p in glob.glob(named, recursive=True) if "/wal/" in p]


def test_an_archive_whose_wal_is_all_gone_is_damaged_while_its_agent_runs(streamed):
    pg, wa = streamed
    pg.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    durable(wa, pg)
    root = wa.sections["repository"]["url"][len("file://"):]
    for kind in ("wal", "tail"):
        for path in glob.glob(root + "/%s/*/%s" % (wa.name, kind)):
            shutil.rmtree(path)
    told = wa.json("verify", check=3)["damage"]
    assert any("holds no WAL" in d["message"] for d in told), told
