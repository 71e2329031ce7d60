"""WAL that walagent can't follow and the server can: a byte of padding between two records isn't zero.
walagent doesn't accept that, so it archives the segment unchecked; PostgreSQL never looks at it."""
import os
import re
import time

import pytest

import lab
from test_hooks import SEGMENT, archiving_server, keys

COMMIT = re.compile(r"len \(rec/tot\):\s*\d+/\s*(\d+), .* lsn: ([0-9A-F]+)/([0-9A-F]+), .* desc: COMMIT")


def set_padding(pg, name):
    """A byte behind the segment's first commit that is followed by padding."""
    path = os.path.join(pg.data, "pg_wal", name)
    dump = pg.tool("pg_waldump", "-r", "Transaction", "-p", os.path.dirname(path), name).stdout
    for length, high, low in COMMIT.findall(dump):
        end = (int(high, 16) << 32) + int(low, 16) + int(length)
        if end % 8 and end % 8192 > int(length) + 40:
            with open(path, "r+b") as f:
                f.seek(end % SEGMENT)
                assert f.read(1) == b"\0"
                f.seek(end % SEGMENT)
                f.write(b"\1")
            return
    raise AssertionError(dump)


@pytest.fixture
def story(make_pg, make_walagent, file_repository):
    """A backup, then a segment with a bad byte behind its first commit, then three moments with a row
    before each; and another segment."""
    pg, walagent = archiving_server(make_pg, make_walagent, file_repository)
    pg.sql("CREATE TABLE t (i int)")
    walagent.run("backup")
    pg.switch_wal()
    pg.sql("ALTER SYSTEM SET archive_command = 'false'")
    pg.reload()
    lab.wait_until(lambda: pg.value("SHOW archive_command") == "false", 10, "nothing is archived")
    moments = []
    for i in range(4):
        pg.sql("INSERT INTO t VALUES (%d)" % i)
        time.sleep(0.05)
        moments.append(pg.value("SELECT clock_timestamp()::text"))
        time.sleep(0.05)
    pg.sql("SELECT pg_create_restore_point('here')")
    pg.sql("INSERT INTO t VALUES (4)")
    name = pg.switch_wal()
    set_padding(pg, name)
    pg.sql("ALTER SYSTEM RESET archive_command")
    pg.reload()
    last = pg.switch_wal()
    lab.wait_until(lambda: (pg.value("SELECT last_archived_wal FROM pg_stat_archiver") or "") >= last,
                   60, "%s is archived; the log: %s" % (last, pg.log[-2000:]))
    [key] = [k for k in keys(walagent, "wal") if name in k]
    assert '"checked":false' in lab.read_file(key + ".meta")
    return pg, walagent, moments, name


def restored(walagent, make_pg, directory, *target):
    server = lab.Postgres(directory, 15)
    done = walagent.run("restore", "-D", server.data, "--accept-unchecked-wal", *target)
    assert "accepted as asked" in done.stdout
    make_pg.adopt(server)
    server.start()
    lab.wait_until(lambda: not server.value("SELECT pg_is_in_recovery()"), 30,
                   "recovery ends: " + server.log[-2000:])
    return [r[0] for r in server.sql("SELECT i FROM t ORDER BY i")]


def test_a_target_in_wal_that_only_the_server_can_follow(story, make_pg, work_dir):
    pg, walagent, moments, name = story
    lab.own(work_dir)
    [hole] = walagent.json("list")["holes"]
    assert hole["archived"]
    for target in (("--to-time", moments[2]), ("--to-name", "here"), ("--to-latest",)):
        refused = walagent.run("restore", "-D", work_dir + "/no", *target, check=3)
        assert name in refused.stderr and "--accept-unchecked-wal lets it try" in refused.stderr
    assert not os.path.exists(work_dir + "/no")
    assert restored(walagent, make_pg, work_dir + "/time", "--to-time", moments[2]) == [0, 1, 2]
    assert restored(walagent, make_pg, work_dir + "/name", "--to-name", "here") == [0, 1, 2, 3]
    assert restored(walagent, make_pg, work_dir + "/latest", "--to-latest") == [0, 1, 2, 3, 4]
    xid = pg.value("SELECT xmin FROM t WHERE i = 1")
    assert restored(walagent, make_pg, work_dir + "/xid", "--to-xid", xid) == [0, 1]
