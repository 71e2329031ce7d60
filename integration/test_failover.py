"""Failover: when the agent leaves a timeline for its child, and what a promotion brings back.

Two servers and one or two agents; the oracles are the servers' own pg_wal and rows that were
written down when their commits returned.
"""
import os
import time

import lab
from test_backup import backup, durable, follow, is_ready
from test_main_job import promoted
from test_stream import Load, epoch_of, keeping, lsn, make_streamer, seal_at_end, write_wal  # noqa: F401


def pair(make_pg, work_dir, **settings):
    """A primary and its standby, both keeping their WAL."""
    settings = dict({"wal_keep_size": "1GB"}, **settings)
    old = make_pg(wal_segsize=1, **settings)
    new = old.standby(os.path.join(work_dir, "new"), **settings)
    make_pg.adopt(new)
    new.start()
    return old, new


def timeline_of(server):
    """What it writes now; pg_control tells of the last checkpoint."""
    return int(server.value("SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"), 16)


def fork_of(server):
    """Where the primary's timeline begins."""
    history = "%s/pg_wal/%08X.history" % (server.data, timeline_of(server))
    return lsn(lab.read_file(history).rstrip("\n").split("\n")[-1].split("\t")[1])


def streams_child(status):
    return status["state"] == "streaming" and status["branch"].startswith("00000002")


def assert_both_timelines(agent, old, new, end):
    parent, child = agent.lineage()
    assert parent[0].startswith("00000001-") and child[0].startswith("00000002-")
    agent.assert_identical(new, parent[0], child[1], os.path.join(old.data, "pg_wal"))
    agent.assert_identical(new, child[0], end)


def test_a_timeline_is_not_left_while_its_writer_goes_on(make_pg, make_streamer, work_dir):
    old, new = pair(make_pg, work_dir)
    first = make_streamer(old, tail_interval_ms=300).start()
    first.wait(lambda st: st["state"] == "streaming")
    load = Load(old)
    second = make_streamer(new, url=first.url, init=False, tail_interval_ms=3000).start()
    second.wait(lambda st: st["state"] == "waiting")
    new.caught_up_with(old)
    new.promote()  # nobody has fenced the old primary, and its clients go on
    second.wait(lambda st: "not adopted" in second.said(), 20, "it says why it waits")
    seen, told = fork_of(new), time.monotonic()
    # The parent stands still when it did for three of the second one's intervals.
    while time.monotonic() < told + 10:
        seen = first.wait(lambda st: st["durable"] > seen, 15, "the old one goes on")["durable"]
        assert second.status()["state"] == "waiting" and epoch_of(first) == 1
    old.kill9()
    load.stop()
    write_wal(new, 1.5)
    second.wait(streams_child, 20, "it adopts what stands still")
    end = second.wait_durable(new)
    second.stop()
    assert_both_timelines(second, old, new, end)
    assert second.lineage()[1][1] < seen, "the fork should lie before what the old one wrote last"


def test_a_sealed_timeline_is_left_at_once(make_pg, make_streamer, work_dir):
    old, new = pair(make_pg, work_dir)
    first = make_streamer(old, tail_interval_ms=200).start()
    first.wait(lambda st: st["state"] == "streaming")
    write_wal(old, 1.5)
    first.wait_durable(old)
    new.caught_up_with(old)
    second = make_streamer(new, url=first.url, init=False, tail_interval_ms=600000).start()
    second.wait(lambda st: st["state"] == "waiting")
    old.stop()
    sealed = first.stop()["durable"]
    new.promote()
    time.sleep(4)  # its interval is ten minutes: the tip does not stand still yet
    assert second.status()["state"] == "waiting" and epoch_of(first) == 1
    second.command("seal", second.url, sealed)
    second.wait(streams_child, 20, "it adopts what was sealed")
    write_wal(new, 1)
    second.stop()
    end = second.status()["durable"]
    assert_both_timelines(second, old, new, end)


def test_a_writer_fenced_for_a_promotion_follows_it(make_pg, make_streamer, work_dir):
    old, new = pair(make_pg, work_dir)
    agent = make_streamer(old, new, tail_interval_ms=200).start()
    agent.wait(lambda st: st["state"] == "streaming")
    agent.wait_durable(old)
    new.caught_up_with(old)
    sealed = seal_at_end(agent)
    write_wal(old, 1.2)
    agent.wait(lambda st: st["state"] == "fenced", 15, "fenced")
    time.sleep(1.5)
    assert agent.status()["durable"] == sealed and epoch_of(agent) == 1
    old.kill9()
    new.promote()
    write_wal(new, 1.2)
    agent.wait(streams_child, 20, "it follows the promotion that it was fenced for")
    end = agent.wait_durable(new)
    agent.stop()
    assert_both_timelines(agent, old, new, end)


def test_timelines_are_hexadecimal_numbers(make_pg, make_walagent, file_repository, work_dir):
    """Past timeline 9, where a decimal reading of 0000000A would fail."""
    pg = make_pg(wal_segsize=1, restore_command="false", wal_keep_size="256MB")
    wa = follow(make_walagent(file_repository, pg))
    backup(wa)
    pg.sql("CREATE TABLE t (i int)")
    for timeline in range(2, 12):
        pg.sql("INSERT INTO t VALUES (%d)" % timeline)
        durable(wa, pg)
        pg.stop()
        lab.write_file(os.path.join(pg.data, "recovery.signal"), "")
        lab.own(os.path.join(pg.data, "recovery.signal"))
        pg.start()
        lab.wait_until(lambda: pg.value("SELECT pg_is_in_recovery()") is False, 30, "a new timeline")
        assert pg.timeline() == timeline
        lab.wait_until(lambda: is_ready(wa), 60, "timeline %d is streamed" % timeline)
    pg.sql("INSERT INTO t VALUES (12)")
    durable(wa, pg)
    listed = wa.json("list")
    assert listed["hole_count"] == 0 and listed["windows"][-1]["branch"].startswith("0000000B-")
    copy = lab.Postgres(os.path.join(work_dir, "copy"), pg.major)
    wa.run("restore", "-D", copy.data)
    make_pg.adopt(copy)
    promoted(copy.start())
    assert copy.value("SELECT count(*) FROM t") == 11 and copy.timeline() == 12
    assert wa.json("verify")["damage"] == []
