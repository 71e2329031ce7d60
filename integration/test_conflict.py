"""The hooks on both kinds of store, and the way out of a conflict."""
import os
import re

import pytest

import lab
from test_hooks import SEGMENT, archive, get, other_content, segment_file, switch


@pytest.fixture(params=["file", "s3"])
def archiving(request, make_pg, make_walagent):
    """A server that archives into a fresh repository, without an agent."""
    repository = request.getfixturevalue(request.param + "_repository")
    pg = make_pg(start=False)
    walagent = make_walagent(repository, pg)
    pg.start()
    walagent.run("init")
    pg.stop()
    archive(pg, walagent)
    return pg, walagent


def same(path, pg, name):
    with open(path, "rb") as a, open(segment_file(pg, name), "rb") as b:
        return a.read() == b.read()


def test_a_conflict_lasts_until_a_person_settles_it(archiving, make_pg, work_dir):
    pg, walagent = archiving
    name = switch(pg)
    other = other_content(make_pg, name)
    for _ in range(2):
        refused = walagent.run("archive-push", other, check=5)
        assert "lineage resolve %s --keep" % name in refused.stderr
    never = walagent.run("lineage", "resolve", name, "--keep", "pushed", check=2)
    assert "never replaced" in never.stderr and "quarantine/" in never.stderr
    walagent.run("lineage", "resolve", name, check=2)
    walagent.run("lineage", "resolve", "0000000100000AAA00000001", "--keep", "both", check=1)
    walagent.run("archive-push", other, check=5)
    settled = walagent.run("lineage", "resolve", name, "--keep", "archived").stdout
    assert re.search(r"quarantine/\S+/%s-[0-9a-f]{32}\.zst" % name, settled)
    accepted = walagent.run("archive-push", other)
    assert "WARNING" in accepted.stderr and "settled" in accepted.stderr
    again = walagent.json("lineage", "resolve", name, "--keep", "both")["resolved"]
    assert [(k["name"], k["new"]) for k in again] == [(name, False)]
    # what is archived stayed as it is
    target = os.path.join(lab.make_dir(work_dir + "/out"), "segment")
    get(walagent, name, target)
    assert same(target, pg, name)
    # other content is a conflict as before
    copy = os.path.join(lab.make_dir(work_dir + "/copy"), name)
    with open(other, "rb") as f:
        content = bytearray(f.read())
    content[SEGMENT - 200] ^= 1
    with open(copy, "wb") as f:
        f.write(content)
    lab.own(copy)
    walagent.run("archive-push", copy, check=5)


def test_a_server_goes_on_when_its_conflict_is_settled(archiving, make_pg):
    pg, walagent = archiving
    name = switch(pg)
    other = make_pg(start=False)  # another history of the same cluster
    archive(other, walagent)
    while other.switch_wal() < name:
        pass
    lab.wait_until(lambda: other.value("SELECT last_failed_wal FROM pg_stat_archiver") == name, 60,
                   "the server is refused; " + other.log[-2000:])
    pg.stop()
    last = other.switch_wal()
    lab.wait_until(lambda: "exit code 5" in other.log, 60, "the reason is in the server's log")

    def goes_on():
        stuck = other.value("SELECT last_failed_wal FROM pg_stat_archiver")
        walagent.run("lineage", "resolve", stuck, "--keep", "both", check=(0, 1))
        return (other.value("SELECT last_archived_wal FROM pg_stat_archiver") or "") >= last
    lab.wait_until(goes_on, 90, "archiving goes on; " + other.log[-2000:])


def test_segments_come_and_go_and_are_fetched_ahead(archiving, work_dir):
    pg, walagent = archiving
    names = [switch(pg) for _ in range(4)]
    walagent.run("archive-push", segment_file(pg, names[0]))
    data = lab.make_dir(work_dir + "/data")
    lab.make_dir(data + "/pg_wal")
    lab.write_file(data + "/recovery.signal", "")
    xlog = data + "/pg_wal/RECOVERYXLOG"
    get(walagent, names[0], "pg_wal/RECOVERYXLOG", data)
    assert same(xlog, pg, names[0])
    ahead = data + "/pgsql_tmp_walagent/pgsql_tmp_" + names[1]
    lab.wait_until(lambda: os.path.exists(ahead) and os.path.getsize(ahead) == SEGMENT, 30,
                   "the next segment is fetched ahead")
    inode = os.stat(ahead).st_ino
    get(walagent, names[1], "pg_wal/RECOVERYXLOG", data)
    assert os.stat(xlog).st_ino == inode and same(xlog, pg, names[1])
    for name in names[2:]:
        get(walagent, name, "pg_wal/RECOVERYXLOG", data)
        assert same(xlog, pg, name)
    get(walagent, "0000000100000AAA00000001", "pg_wal/RECOVERYXLOG", data, check=1)
    get(walagent, "00000002.history", "pg_wal/RECOVERYHISTORY", data, check=1)
    os.unlink(data + "/recovery.signal")
    directory = data + "/pgsql_tmp_walagent"
    lab.wait_until(lambda: not [f for f in os.listdir(directory)
                                if f == "pgsql_tmp_socket" or f.startswith("pgsql_tmp_0")], 30,
                   "the prefetcher has ended and taken its files along")


def test_histories_of_a_promotion_come_back(archiving, make_pg, work_dir):
    pg, walagent = archiving
    replica = pg.standby(work_dir + "/replica")
    make_pg.adopt(replica)
    replica.start().caught_up_with(pg).promote()
    replica.sql("CREATE TABLE t AS SELECT 1")
    name = switch(replica)
    out = lab.make_dir(work_dir + "/out")
    get(walagent, "00000002.history", out + "/h")
    assert lab.read_file(out + "/h") == lab.read_file(segment_file(replica, "00000002.history"))
    get(walagent, name, out + "/s")
    assert same(out + "/s", replica, name)
