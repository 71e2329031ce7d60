"""archive-push with an agent: what is archived ahead, and what is left to the streamer."""
import json
import os
import re

import pytest

import lab
from test_hooks import SEGMENT, hook, keys, segment_file

AHEAD = 16  # WA_PUSH_AHEAD_SEGMENTS


def metric(walagent, name):
    text = walagent.http("/metrics")[1]
    return int(float(re.search("^%s (.*)$" % re.escape(name), text, re.M).group(1)))


def reaches_the_repository(walagent):
    try:
        return metric(walagent, "walagent_repository_up") == 1
    except OSError:  # it does not listen yet
        assert walagent.is_running(), "the agent ended:\n" + walagent.log[-4000:]
        return False


def puts(walagent):
    return metric(walagent, 'walagent_store_requests_total{kind="put"}')


def archived(walagent):
    return sorted(os.path.basename(k)[:24] for k in keys(walagent, "wal"))


def objects(walagent):
    """What pushes write: segments, and the index of every sixteen."""
    return len(keys(walagent, "wal")) + len(keys(walagent, "index"))


def push(pg, walagent, name):
    """As the server does it."""
    walagent.run("archive-push", segment_file(pg, name))
    status = pg.data + "/pg_wal/archive_status/" + name
    os.rename(status + ".ready", status + ".done")


@pytest.fixture
def backlog(make_pg, make_walagent, file_repository):
    """(server, agent, names): 22 segments wait for an archive_command that fails; the agent reaches
    the repository and no server."""
    pg = make_pg(archive_mode="on", archive_command="false", wal_keep_size="1GB")
    walagent = make_walagent(file_repository, pg)
    walagent.run("init")
    pg.sql("CREATE TABLE t (i int)")
    names = []
    for i in range(AHEAD + 6):
        pg.sql("INSERT INTO t VALUES (%d)" % i)
        names.append(pg.switch_wal())
    conninfo = walagent.sections["cluster"]["conninfo"]
    walagent.set("cluster.conninfo", re.sub(r"port=\d+", "port=1", conninfo))
    walagent.start(ready=False)
    walagent.expect("connect")
    lab.wait_until(lambda: reaches_the_repository(walagent), 30, "the agent is up")
    return pg, walagent, names


def test_what_is_ready_is_archived_ahead_and_then_costs_no_upload(backlog):
    pg, walagent, names = backlog
    first = sorted(f[:24] for f in os.listdir(pg.data + "/pg_wal/archive_status")
                   if re.fullmatch("[0-9A-F]{24}.ready", f))
    assert first[-len(names):] == names
    push(pg, walagent, first[0])
    lab.wait_until(lambda: archived(walagent) == first[:AHEAD + 1], 60,
                   "%d segments are archived ahead; %s" % (AHEAD, walagent.log[-2000:]))
    # what the next calls ask for is known, and what comes behind it is one request each
    for name in first[1:AHEAD // 2]:
        push(pg, walagent, name)
    lab.wait_until(lambda: archived(walagent) == first[:len(names)], 60, "the rest follows")
    lab.wait_until(lambda: puts(walagent) == objects(walagent), 10, "one request an object")
    # a file that changed since is looked at anew
    other = first[AHEAD // 2]
    with open(segment_file(pg, other), "r+b") as f:
        f.seek(SEGMENT - 100)
        f.write(b"x")
    walagent.expect("archive-push")
    refused = walagent.run("archive-push", segment_file(pg, other), check=5)
    assert other in refused.stderr and len(keys(walagent, "quarantine")) == 1


def test_a_server_with_a_backlog_is_soon_through(backlog):
    pg, walagent, names = backlog
    before, there = puts(walagent), objects(walagent)
    pg.configure(archive_command=hook(walagent, "archive-push", "%p"))
    pg.sql("SELECT pg_reload_conf()")
    lab.wait_until(lambda: pg.value("SELECT last_archived_wal FROM pg_stat_archiver") == names[-1],
                   120, "the backlog is archived")
    assert set(names) <= set(archived(walagent))
    lab.wait_until(lambda: puts(walagent) - before == objects(walagent) - there, 10, "one request an object")
    assert not pg.sql("SELECT last_failed_wal FROM pg_stat_archiver WHERE last_failed_wal > '%s'" % names[0])


def test_what_lies_before_the_stream_is_archived_ahead_too(make_pg, make_walagent, file_repository):
    pg = make_pg(archive_mode="on", archive_command="false", wal_keep_size="1GB")
    walagent = make_walagent(file_repository, pg)
    pg.sql("CREATE TABLE t (i int)")
    for i in range(AHEAD + 2):
        pg.sql("INSERT INTO t VALUES (%d)" % i)
        pg.switch_wal()
    ready = sorted(f[:24] for f in os.listdir(pg.data + "/pg_wal/archive_status")
                   if re.fullmatch("[0-9A-F]{24}.ready", f))
    pg.sql("CHECKPOINT")  # the slot begins here
    walagent.run("init")
    walagent.start()
    lab.wait_until(lambda: json.loads(walagent.run("status", "--json").stdout)["stream"]["state"] == "streaming",
                   30, "it streams")
    assert not set(ready) & set(archived(walagent))
    push(pg, walagent, ready[0])
    lab.wait_until(lambda: set(ready[:AHEAD + 1]) <= set(archived(walagent)), 60,
                   "%d segments are archived ahead: %s" % (AHEAD, archived(walagent)))


def test_a_file_pushed_by_hand_is_no_beginning(backlog):
    pg, walagent, names = backlog
    walagent.run("archive-push", segment_file(pg, names[5]))
    walagent.run("archive-push", segment_file(pg, names[3]))
    assert archived(walagent) == [names[3], names[5]]


def test_what_the_streamer_ships_is_uploaded_once(make_pg, make_walagent, file_repository):
    pg = make_pg(start=False)
    walagent = make_walagent(file_repository, pg)
    pg.configure(archive_mode="on", archive_command=hook(walagent, "archive-push", "%p"))
    pg.start()
    walagent.run("init")
    walagent.start()

    def numbers():
        return (puts(walagent), metric(walagent, "walagent_segments_archived_total")
                + metric(walagent, "walagent_chunks_archived_total"))

    pg.sql("CREATE TABLE t (i int)")
    first = pg.switch_wal()
    lab.wait_until(lambda: (pg.value("SELECT last_archived_wal FROM pg_stat_archiver") or "")
                   >= first, 30, "the first one is archived")
    before = numbers()
    for _ in range(6):
        pg.sql("INSERT INTO t SELECT generate_series(1, 20000)")
        name = pg.switch_wal()
        lab.wait_until(lambda: pg.value("SELECT last_archived_wal FROM pg_stat_archiver") == name,
                       30, "%s is archived" % name)
    lab.wait_until(lambda: numbers()[0] - before[0] == numbers()[1] - before[1], 10,
                   "every object was put once: %s, %s" % (before, numbers()))
    assert name in archived(walagent)
    assert not pg.sql("SELECT last_failed_wal FROM pg_stat_archiver WHERE last_failed_wal > '%s'" % first)


def test_what_is_gone_is_archived_again_when_it_is_pushed_by_hand(make_pg, make_walagent, file_repository):
    pg = make_pg(wal_keep_size="1GB")  # without archive_command: nobody asked for any of them before
    walagent = make_walagent(file_repository, pg)
    walagent.run("init")
    walagent.start()
    pg.sql("CREATE TABLE t (i int)")
    names = []
    for i in range(3):
        pg.sql("INSERT INTO t VALUES (%d)" % i)
        names.append(pg.switch_wal())
    lab.wait_until(lambda: set(names) <= set(archived(walagent)), 30, "they are streamed")
    for path in keys(walagent, "wal"):
        if os.path.basename(path)[:24] in names[:2]:
            os.unlink(path)
    for name in names:
        walagent.run("archive-push", segment_file(pg, name))
        assert name in archived(walagent)
    assert not walagent.run("verify", check=None).returncode
