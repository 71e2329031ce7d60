"""archive-push without an agent: the helper that the first call of a backlog leaves behind."""
import os
import signal

import pytest

import lab
from test_hooks import SEGMENT, hook, keys, segment_file

SEGMENTS = 22


def helpers(walagent):
    """Pids of the helpers that serve this configuration."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = lab.read_file("/proc/%s/cmdline" % entry).split("\0")
        except ProcessLookupError:
            continue
        if "--helper" in words and walagent.config_path in words and lab.is_running(int(entry)):
            found.append(int(entry))
    return found


def archived(walagent):
    """What counts; a writer that was killed leaves a temporary name behind."""
    names = [os.path.basename(k) for k in keys(walagent, "wal")]
    return sorted(n[:24] for n in names if not n.startswith("."))


def push(pg, walagent, name, check=0):
    """As the server does it; a success is noted as the server does."""
    done = walagent.run("archive-push", "pg_wal/" + name, cwd=pg.data, check=check)
    if check == 0:
        status = pg.data + "/pg_wal/archive_status/" + name
        os.rename(status + ".ready", status + ".done")
    return done


def is_archived(pg, name):
    return (pg.value("SELECT last_archived_wal FROM pg_stat_archiver") or "") >= name


@pytest.fixture
def backlog(make_pg, make_walagent, file_repository):
    """(server, walagent, names): segments wait for an archive_command that fails; no agent runs."""
    pg = make_pg(archive_mode="on", archive_command="false", wal_keep_size="1GB")
    walagent = make_walagent(file_repository, pg)
    walagent.run("init")
    pg.sql("CREATE TABLE t (i int)")
    for i in range(SEGMENTS):
        pg.sql("INSERT INTO t VALUES (%d)" % i)
        pg.switch_wal()
    ready = sorted(f[:24] for f in os.listdir(pg.data + "/pg_wal/archive_status") if f.endswith(".ready"))
    yield pg, walagent, ready
    for pid in helpers(walagent):
        lab.kill(pid)


def test_a_backlog_is_archived_by_one_helper_that_ends_after_the_server(backlog):
    pg, walagent, ready = backlog
    pg.configure(archive_command=hook(walagent, "archive-push", "%p"))
    pg.sql("SELECT pg_reload_conf()")
    lab.wait_until(lambda: is_archived(pg, ready[-1]), 120, "the backlog is archived: " + pg.log[-2000:])
    assert set(ready) <= set(archived(walagent))
    assert not pg.sql("SELECT 1 FROM pg_stat_archiver WHERE last_failed_wal > '%s'" % ready[0])
    left = helpers(walagent)
    assert len(left) == 1
    pg.stop()
    lab.wait_until(lambda: not helpers(walagent), 20, "the helper ended")
    assert not [f for f in os.listdir(pg.data + "/pgsql_tmp_walagent") if f.startswith("pgsql_tmp_push") and not f.endswith(".lock")]


def test_a_single_segment_leaves_nobody_behind(backlog):
    pg, walagent, ready = backlog
    for name in ready[1:]:
        os.rename(*["%s/pg_wal/archive_status/%s.%s" % (pg.data, name, s) for s in ("ready", "done")])
    push(pg, walagent, ready[0])
    assert archived(walagent) == ready[:1] and not helpers(walagent)


def test_a_helper_that_dies_half_way_costs_nothing(backlog):
    pg, walagent, ready = backlog
    for at, name in enumerate(ready):
        push(pg, walagent, name)
        assert name in archived(walagent)
        if at % 3 == 0:  # in the middle of what it does ahead
            for pid in helpers(walagent):
                lab.kill(pid)
    assert archived(walagent) == ready
    assert not walagent.run("verify", check=None).returncode


def test_a_stopped_helper_is_waited_for_no_longer_than_it_lives(backlog):
    pg, walagent, ready = backlog
    push(pg, walagent, ready[0])
    pid = lab.wait_until(lambda: helpers(walagent), 10, "a helper is there")[0]
    lab.kill(pid, signal.SIGTERM)
    lab.wait_until(lambda: not helpers(walagent), 20, "it ends when it is told to")
    push(pg, walagent, ready[1])
    assert ready[1] in archived(walagent)


def test_the_helper_refuses_as_the_command_does(backlog):
    pg, walagent, ready = backlog
    push(pg, walagent, ready[0])
    lab.wait_until(lambda: ready[2] in archived(walagent), 60, "it is archived ahead")
    with open(segment_file(pg, ready[2]), "r+b") as f:
        f.seek(SEGMENT - 100)
        f.write(b"x")
    push(pg, walagent, ready[1])
    refused = push(pg, walagent, ready[2], check=5)
    assert ready[2] in refused.stderr and len(keys(walagent, "quarantine")) == 1
    assert helpers(walagent)


def test_another_repository_has_a_helper_of_its_own(backlog, make_walagent, work_dir):
    pg, walagent, ready = backlog
    other = make_walagent({"url": "file://" + lab.make_dir(work_dir + "/other", 0o750)}, pg, name="other")
    other.run("init", "--no-slot")
    push(pg, walagent, ready[0])
    lab.wait_until(lambda: ready[1] in archived(walagent), 60, "the helper runs ahead")
    other.run("archive-push", "pg_wal/" + ready[1], cwd=pg.data)
    assert ready[1] in archived(other)
    for pid in helpers(other):
        lab.kill(pid)
