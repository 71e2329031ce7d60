"""restore: real backups, real recoveries. A ledger whose rows carry their own commit times (and
xids, and places in the WAL) says what a copy must hold: exactly what was committed by then."""
import datetime
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time

import pytest

import hand
import lab

TABLESPACE_ROWS = 20000
READ_ONLY = (("server.key", 0o400), ("managed_hba.conf", 0o440))  # that their owner can't write
READ_ONLY_BYTES = 8 << 20


class Story:
    """One cluster with an agent, a tablespace, a first backup on timeline 1, a second one on
    timeline 2, and commits on timelines 1, 2 and 3."""

    def __init__(self, directory, templates, program):
        self.dir = lab.make_dir(directory)
        self.rows = []  # (n, xid, commit time, LSN before, timeline)
        self.pg = templates.make(self.dir + "/pg", 15, wal_segsize=1)
        self.pg.configure(track_commit_timestamp="on", wal_keep_size="64MB")
        self.pg.start()
        self.repo = lab.make_dir(self.dir + "/repo", 0o750)
        self.wa = lab.Walagent(self.dir + "/wa", program, {"url": "file://" + self.repo}, self.pg,
                               settings={"archive.tail_interval": "200ms"})
        self.wa.run("init")
        self.wa.start()
        self.location = lab.make_dir(self.dir + "/ts", 0o700)
        self.fill()

    def fill(self):
        pg = self.pg
        pg.sql("CREATE TABLESPACE elsewhere LOCATION '%s'" % self.location)
        pg.sql("CREATE TABLE far TABLESPACE elsewhere AS SELECT generate_series(1, %d) AS i" %
               TABLESPACE_ROWS)
        pg.sql("CREATE UNLOGGED TABLE gone AS SELECT 1 AS i")
        pg.sql("CREATE TABLE empty (i int)")
        pg.sql("CREATE TABLE ledger (n serial, note text)")
        odd = os.path.join(pg.data, "base", "n" * 75 + " \\ odd'\"\u00e4")
        lab.write_file(odd, "kept")
        with open(os.fsencode(os.path.join(pg.data, "base", "latin-")) + b"\xe4", "wb"):
            pass
        lab.own(os.fsencode(os.path.join(pg.data, "base", "latin-")) + b"\xe4")
        for name, mode in READ_ONLY:
            path = os.path.join(pg.data, name)
            with open(path, "wb") as f:
                f.write(os.urandom(READ_ONLY_BYTES))
            lab.own(path)
            os.chmod(path, mode)
        self.commit(3)
        self.first = self.backup()
        self.commit(10)
        pg.switch_wal()
        self.commit(2)
        pg.sql("SELECT pg_create_restore_point('same')")
        self.commit(3)
        pg.sql("SELECT pg_create_restore_point('same')")
        self.named = len(self.rows)
        self.commit(5)
        self.promote()
        self.commit(10)
        self.second = self.backup()
        self.commit(10)
        self.promote()
        self.commit(10)
        pg.switch_wal()
        self.settle()

    def backup(self):
        done = self.wa.run("backup", "--json", check=None)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return sorted(b["label"] for b in self.wa.json("list")["backups"])[-1]

    def commit(self, count):
        with self.pg.connect() as connection, connection.cursor() as cursor:
            timeline = self.pg.timeline()
            for _ in range(count):
                cursor.execute("SELECT pg_current_wal_insert_lsn()::text")
                before = cursor.fetchone()[0]
                cursor.execute("INSERT INTO ledger (note) VALUES (repeat('x', 3000)) "
                               "RETURNING n, pg_current_xact_id()::text")
                n, xid = cursor.fetchone()
                cursor.execute("SELECT pg_xact_commit_timestamp(xmin)::text FROM ledger "
                               "WHERE n = %s", (n,))
                self.rows.append((n, int(xid), cursor.fetchone()[0], before, timeline))
                time.sleep(0.02)

    def promote(self):
        """The same server goes on on the next timeline."""
        self.settle()
        before = self.pg.timeline()
        self.pg.stop()
        lab.write_file(os.path.join(self.pg.data, "standby.signal"), "")
        self.pg.start()
        self.pg.promote()
        lab.wait_until(lambda: not self.pg.value("SELECT pg_is_in_recovery()"), 30, "promoted")
        self.pg.sql("CHECKPOINT")
        assert self.pg.timeline() == before + 1
        self.settle()

    def settle(self):
        """Everything is in the archive."""
        target = self.pg.lsn()

        def arrived():
            windows = self.wa.json("list", check=None)["windows"] if self.has_backup() else True
            return windows is True or any(
                lsn_number(w["end_lsn"]) >= lsn_number(target) and w["timeline"] == self.pg.timeline()
                for w in windows)
        lab.wait_until(arrived, 60, "the archive reaches %s; log: %s" % (target, self.wa.log[-3000:]))

    def has_backup(self):
        return bool(self.wa.json("list")["backups"])

    def by(self, moment):
        return [r[0] for r in self.rows if when(r[2]) <= when(moment)]

    def stop(self):
        self.wa.stop()
        self.pg.stop("immediate")


def when(text):
    return datetime.datetime.fromisoformat(text)


def lsn_number(text):
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


@pytest.fixture(scope="module")
def story(session_dir, templates, program):
    made = Story(os.path.join(session_dir, "restore"), templates, program)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def work_dir(work_dir):
    """The program, too, makes directories here."""
    lab.own(work_dir)
    return work_dir


@pytest.fixture
def copy(story, work_dir, make_pg):
    """copy(*options): restores, verifies, starts, and waits for the end of recovery."""
    made = []

    def make(*options, tablespace=True, start=True, major=15):
        server = lab.Postgres("%s/copy%d" % (work_dir, len(made)), major)
        made.append(server)
        mapped = "%s/ts%d" % (work_dir, len(made))
        if tablespace:
            options += ("--tablespace-map", "%s=%s" % (story.location, mapped))
        server.restored = story.wa.run("restore", "-D", server.data, *options)
        server.tool("pg_verifybackup", "-n", server.data)
        if start:
            make_pg.adopt(server)
            server.start()
            lab.wait_until(lambda: not server.value("SELECT pg_is_in_recovery()"), 30,
                           "recovery ends: " + server.log[-2000:])
        return server
    return make


def ledger(server):
    return [r[0] for r in server.sql("SELECT n FROM ledger ORDER BY n")]


def refused(story, work_dir, *options, code=3):
    target = os.path.join(work_dir, "refused")
    done = story.wa.run("restore", "-D", target, *options, check=code)
    assert not os.path.exists(target), "something was written"
    assert "HINT:" in done.stderr
    return done.stderr


def test_the_latest_point_holds_everything_that_was_committed(story, copy):
    server = copy("--to-latest")
    assert ledger(server) == [r[0] for r in story.rows]
    assert server.value("SELECT count(*) FROM far") == TABLESPACE_ROWS
    assert server.value("SELECT count(*) FROM gone") == 0
    assert server.value("SELECT count(*) FROM empty") == 0
    assert server.value("SHOW archive_mode") == "off"
    assert lab.read_file(os.path.join(server.data, "base", "n" * 75 + " \\ odd'\"\u00e4")) == "kept"
    assert os.path.exists(os.fsencode(os.path.join(server.data, "base", "latin-")) + b"\xe4")
    oid = os.listdir(os.path.join(server.data, "pg_tblspc"))[0]
    assert os.readlink(os.path.join(server.data, "pg_tblspc", oid)).startswith(
        os.path.dirname(server.dir))
    assert os.stat(server.data).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("index", [5, 15, 27, 36, 42])
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_time_holds_exactly_what_was_committed_by_then(story, copy, index, exclusive):
    row = story.rows[index]
    server = copy("--to-time", row[2], *(["--exclusive"] if exclusive else []))
    expected = story.by(row[2])
    assert ledger(server) == (expected[:-1] if exclusive else expected)
    assert "last in the copy: commit of transaction" in server.restored.stdout


def test_a_time_between_two_commits_names_both(story, copy):
    before, after = story.rows[20], story.rows[21]
    middle = when(before[2]) + (when(after[2]) - when(before[2])) / 2
    plan = story.wa.json("restore", "-D", "/nonexistent/x", "--to-time", middle.isoformat(),
                         "--dry-run")
    assert (plan["before"]["xid"], plan["after"]["xid"]) == (before[1], after[1])
    assert plan["timeline"] == after[4] and not plan["target_inclusive"]


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_transaction_id(story, copy, exclusive):
    row = story.rows[25]
    server = copy("--to-xid", row[1], *(["--exclusive"] if exclusive else []))
    assert ledger(server) == list(range(1, row[0] + (0 if exclusive else 1)))


def test_a_transaction_id_with_its_epoch_is_the_one_of_its_low_32_bits(story):
    xid = story.rows[25][1]
    ask = ["restore", "-D", "/nonexistent/x", "--dry-run", "--to-xid"]
    low, full = (story.wa.json(*ask, n) for n in (xid, (3 << 32) + xid))
    assert full["before"]["xid"] == xid
    assert (full["target_lsn"], full["before"]) == (low["target_lsn"], low["before"])
    said = story.wa.run(*ask, (3 << 32) + xid).stdout
    assert "transaction %d (%d in the WAL)" % ((3 << 32) + xid, xid) in said
    for wrong in (0, 3 << 32, 1 << 64):
        story.wa.run(*ask, wrong, check=2)


@pytest.mark.parametrize("exclusive", [False, True])
def test_an_lsn(story, copy, exclusive):
    row = story.rows[30]
    server = copy("--to-lsn", row[3], *(["--exclusive"] if exclusive else []))
    assert ledger(server) == list(range(1, row[0]))


def test_of_two_restore_points_of_one_name_the_newest_is_taken(story, copy):
    server = copy("--to-name", "same")
    assert "2 restore points of this name" in server.restored.stdout
    assert len(ledger(server)) == story.named


def test_the_consistent_end_of_a_backup(story, copy):
    server = copy("--to-consistent", "--backup", story.first)
    assert ledger(server) == [1, 2, 3]


def test_the_backups_own_timeline_ends_where_it_was_left(story, copy):
    server = copy("--timeline", "1", "--backup", story.first)
    assert ledger(server) == [r[0] for r in story.rows if r[4] == 1]
    assert server.value("SELECT timeline_id FROM pg_control_checkpoint()") > 1


def test_an_old_backup_leads_over_two_promotions(story, copy):
    server = copy("--backup", story.first)
    assert ledger(server) == [r[0] for r in story.rows]
    assert story.first in server.restored.stdout


def test_the_action_shutdown_leaves_a_server_that_was_shut_down(story, copy, work_dir):
    server = copy("--to-time", story.rows[25][2], "--action", "shutdown", start=False)
    server.start(check=False)
    lab.wait_until(lambda: not server.is_running(), 30, "the server stops at the target")
    assert "in recovery" in server.control()["Database cluster state"]


def test_what_can_not_be_reached_is_refused_before_a_byte_is_written(story, work_dir):
    early = (when(story.rows[0][2]) - datetime.timedelta(days=1)).isoformat()
    late = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)).isoformat()
    assert "before the end of the first backup" in refused(story, work_dir, "--to-time", early)
    assert "past the end of the archive" in refused(story, work_dir, "--to-time", late)
    assert "past the end of the archive" in refused(story, work_dir, "--to-lsn", "FF/0")
    assert "before the end of the first backup" in refused(story, work_dir, "--to-lsn", "0/28")
    assert "no commit or abort of transaction" in refused(story, work_dir, "--to-xid", "2000000000")
    assert 'did you mean "same"' in refused(story, work_dir, "--to-name", "samee")
    assert "not in the archive" in refused(story, work_dir, "--timeline", "9")
    assert "no backup" in refused(story, work_dir, "--backup", "20000101T000000Z-F-0000")


def copied_repository(story, work_dir, program):
    """The same archive, to be damaged."""
    repo = os.path.join(work_dir, "damaged")
    subprocess.run(["cp", "-a", story.repo, repo], check=True)
    return repo, lab.Walagent(work_dir + "/wa-damaged", program, {"url": "file://" + repo})


def objects(repo, part):
    found = []
    for directory, _, names in os.walk(repo):
        found += [os.path.join(directory, n) for n in names
                  if part in os.path.join(directory, n) and not n.endswith(".meta")]
    return sorted(found)


def test_a_target_in_a_hole_is_refused_with_the_points_around_it(story, work_dir, program):
    repo, wa = copied_repository(story, work_dir, program)
    row = story.rows[8]
    segment = "00000001" + "00000000" + "%08X" % (lsn_number(row[3]) >> 20)
    gone = objects(repo, segment)
    assert gone
    for key in gone:
        os.unlink(key)
    shutil.rmtree(objects_dir(repo, "index"), ignore_errors=True)
    target = work_dir + "/refused"
    done = wa.run("restore", "-D", target, "--to-lsn", row[3], check=3)
    assert "in a hole of the archive" in done.stderr and "Reachable:" in done.stderr
    done = wa.run("restore", "-D", target, "--to-time", row[2], check=3)
    assert "hole" in done.stderr
    done = wa.run("restore", "-D", target, "--to-latest", "--backup", story.first, check=3)
    assert "hole" in done.stderr and not os.path.exists(target)
    wa.run("restore", "-D", target, "--to-latest", "--dry-run")  # the second backup lies behind it


@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_a_target_behind_a_damaged_segment_is_refused_before_a_byte_is_written(story, work_dir, program, how):
    """The server would find out when it gets there, after all files were fetched."""
    repo, wa = copied_repository(story, work_dir, program)
    row, behind = story.rows[8], story.rows[12]
    segment = "00000001" + "00000000" + "%08X" % (lsn_number(row[3]) >> 20)
    for chunk in objects(repo, "/tail/"):
        if segment in chunk:  # they would stand in for it
            os.unlink(chunk)
    (key,) = [o for o in objects(repo, segment) if "/wal/" in o]
    if how == "gone":
        os.unlink(key)
    else:
        with open(key, "r+b") as f:
            f.seek(os.path.getsize(key) // 2)
            byte = f.read(1)
            f.seek(-1, 1)
            f.write(bytes([byte[0] ^ 1]))
    target = work_dir + "/refused"
    for options in (("--to-time", behind[2]), ("--to-lsn", behind[3]), ("--to-xid", str(behind[1])),
                    ("--to-name", "same"), ("--to-latest", "--backup", story.first)):
        for dry in ((), ("--dry-run",)):
            done = wa.run("restore", "-D", target, *options, *dry, check=3)
            assert not os.path.exists(target)
            if how == "flipped":  # else it is a hole that the listing shows
                assert segment in done.stderr and story.second in done.stderr, done.stderr
    near = re.search(r"--to-lsn ([0-9A-F/]+)", done.stderr)
    if near:
        wa.run("restore", "-D", target, "--to-lsn", near.group(1), "--dry-run")
    plan = wa.json("restore", "-D", target, "--to-latest", "--dry-run")  # begins behind it
    assert plan["backup"] == story.second and plan["wal_read"]


def objects_dir(repo, name):
    for directory, names, _ in os.walk(repo):
        if name in names:
            return os.path.join(directory, name)
    return os.path.join(repo, "none")


def test_a_corrupt_pack_is_detected_and_named_and_the_copy_does_not_start(story, work_dir, program):
    repo, wa = copied_repository(story, work_dir, program)
    pack = objects(repo, "/%s/pack-00001" % story.second)[0]
    with open(pack, "r+b") as f:
        f.seek(os.path.getsize(pack) // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 0x10]))
    target = work_dir + "/copy"
    done = wa.run("restore", "-D", target, "--tablespace-map",
                  "%s=%s/ts" % (story.location, work_dir), check=3)
    assert os.path.basename(pack) in done.stderr
    assert "incomplete and does not start" in done.stderr and "--delta" in done.stderr
    assert not os.path.exists(target + "/global/pg_control")
    # The whole archive again: --delta completes it.
    story.wa.run("restore", "-D", target, "--delta", "--tablespace-map",
                 "%s=%s/ts" % (story.location, work_dir))
    lab.Postgres(work_dir + "/x", 15).tool("pg_verifybackup", "-n", target)


def test_directories_in_the_way_are_refused(story, work_dir):
    ts = ("--tablespace-map", "%s=%s/ts" % (story.location, work_dir))
    full = lab.make_dir(work_dir + "/full")
    lab.write_file(full + "/keep", "mine")
    assert "is not empty" in story.wa.run("restore", "-D", full, *ts, check=2).stderr
    assert "no data directory" in story.wa.run("restore", "-D", full, "--delta", *ts, check=2).stderr
    assert lab.read_file(full + "/keep") == "mine"
    assert "no directory" in story.wa.run("restore", "-D", full + "/keep/x", *ts, check=2).stderr
    # Where no directory can be made, none is incomplete.
    os.mkdir(work_dir + "/closed", 0o555)
    done = story.wa.run("restore", "-D", work_dir + "/closed/x", *ts, check=None)
    assert done.returncode != 0 and "could not restore into" in done.stderr, done.stderr
    assert not os.path.exists(work_dir + "/closed/x") and "incomplete" not in done.stderr
    assert "server is running" in story.wa.run("restore", "-D", story.pg.data, "--delta", *ts,
                                               check=2).stderr
    # Without a mapping the tablespace would go where the living one is.
    assert "is not empty" in story.wa.run("restore", "-D", work_dir + "/new", check=2).stderr
    assert "no tablespace" in story.wa.run("restore", "-D", work_dir + "/new", "--tablespace-map",
                                           "/nowhere=/else", check=2).stderr
    assert story.pg.value("SELECT count(*) FROM far") == TABLESPACE_ROWS


def test_delta_repairs_what_differs_and_removes_what_does_not_belong(story, copy):
    server = copy("--to-latest", start=False)
    ts = os.readlink(os.path.join(server.data, "pg_tblspc",
                                  os.listdir(os.path.join(server.data, "pg_tblspc"))[0]))
    version = os.path.join(server.data, "PG_VERSION")
    was = os.stat(version).st_ino, os.stat(version).st_mtime_ns
    with open(os.path.join(server.data, "global", "pg_filenode.map"), "r+b") as f:
        f.write(b"damage")
    os.unlink(os.path.join(server.data, "global", "pg_control"))
    lab.write_file(os.path.join(server.data, "base", "alien"), "x")
    lab.make_dir(os.path.join(server.data, "alien.d"))
    lab.make_dir(os.path.join(server.data, "alien.d", "e"))
    lab.write_file(os.path.join(server.data, "pg_wal", "000000010000000000000001"), "old")
    lab.write_file(os.path.join(server.data, "postmaster.pid"), "999999999\n")
    lab.write_file(ts + "/not-ours", "stays")
    story.wa.run("restore", "-D", server.data, "--delta", "--tablespace-map",
                 "%s=%s" % (story.location, ts))
    assert lab.read_file(ts + "/not-ours") == "stays"
    os.unlink(ts + "/not-ours")
    server.tool("pg_verifybackup", "-n", server.data)
    assert not os.path.exists(os.path.join(server.data, "alien.d"))
    assert not os.path.exists(os.path.join(server.data, "postmaster.pid"))
    assert os.listdir(os.path.join(server.data, "pg_wal")).count("000000010000000000000001") == 0
    assert (os.stat(version).st_ino, os.stat(version).st_mtime_ns) == was


@pytest.mark.parametrize("point", ["restore-file-written:1", "restore-file-written:500",
                                   "restore-before-settings", "restore-before-control"])
def test_killed_half_way_it_does_not_start_and_delta_completes_it(story, work_dir, make_pg, point):
    server = lab.Postgres(work_dir + "/copy", 15)
    argv = ["restore", "-D", server.data, "--jobs", "1", "--tablespace-map",
            "%s=%s/ts" % (story.location, work_dir)]
    story.wa.run(*argv, check=-signal.SIGKILL, env={"WALAGENT_CRASH_POINT": point})
    assert os.path.exists(server.data + "/backup_manifest")
    assert not os.path.exists(server.data + "/global/pg_control")
    server.start(check=False)
    assert not server.is_running()
    story.wa.run(*argv, "--delta")
    server.tool("pg_verifybackup", "-n", server.data)
    make_pg.adopt(server)
    server.start()
    lab.wait_until(lambda: not server.value("SELECT pg_is_in_recovery()"), 30, "recovery ends")
    assert ledger(server) == [r[0] for r in story.rows]


def test_killed_within_a_read_only_file_delta_completes_it(story, work_dir):
    server = lab.Postgres(work_dir + "/copy", 15)
    argv = ["restore", "-D", server.data, "--jobs", "1", "--tablespace-map",
            "%s=%s/ts" % (story.location, work_dir)]
    key = os.path.join(server.data, "server.key")
    started = story.wa.command(*argv)
    # A limit on the size of a file ends it where a full disk would: within this file.
    limited = ["/bin/bash", "-c", "ulimit -f $1; shift; exec \"$@\"", "bash",
               str(READ_ONLY_BYTES // 2048)]
    done = subprocess.run(lab.as_user(limited + started), cwd="/", capture_output=True, text=True,
                          env=dict(lab.PLAIN_ENVIRONMENT, **story.wa.environment()), timeout=60,
                          check=False)
    assert done.returncode != 0
    left = [name for name, _ in READ_ONLY if os.path.exists(os.path.join(server.data, name))]
    assert left, done.stderr
    story.wa.run(*argv, "--delta")
    server.tool("pg_verifybackup", "-n", server.data)
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o400


def test_delta_replaces_a_read_only_file_that_differs(story, copy):
    server = copy("--to-latest", start=False)
    for name, mode in READ_ONLY:
        path = os.path.join(server.data, name)
        with open(path, "r+b") as f:
            f.write(b"damage")
        assert stat.S_IMODE(os.stat(path).st_mode) == mode
    ts = os.readlink(os.path.join(server.data, "pg_tblspc",
                                  os.listdir(os.path.join(server.data, "pg_tblspc"))[0]))
    story.wa.run("restore", "-D", server.data, "--delta", "--tablespace-map",
                 "%s=%s" % (story.location, ts))
    server.tool("pg_verifybackup", "-n", server.data)
    for name, mode in READ_ONLY:
        assert stat.S_IMODE(os.stat(os.path.join(server.data, name)).st_mode) == mode


def test_a_replica_follows_its_primary_and_holds_no_password(story, copy):
    server = lab.Postgres(story.dir + "/replica", 15)
    done = story.wa.run(
        "restore", "-D", server.data, "--standby", "--primary-conninfo",
        story.pg.conninfo(dbname=None, password="not-to-be-kept"),
        "--tablespace-map", "%s=%s/replica-ts" % (story.location, story.dir))
    assert "password" in done.stderr
    settings = lab.read_file(server.data + "/postgresql.auto.conf")
    assert "not-to-be-kept" not in settings and "wal_retrieve_retry_interval" in settings
    server.tool("pg_verifybackup", "-n", server.data)
    server.start()
    try:
        story.commit(3)
        server.caught_up_with(story.pg)
        assert ledger(server) == [r[0] for r in story.rows]
        assert story.pg.value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' "
                              "AND application_name <> 'walagent'") == 1
    finally:
        server.stop("immediate")


def test_no_recovery_and_further_settings(story, copy):
    server = copy("--no-recovery", "--set", "work_mem=7MB", start=False)
    settings = lab.read_file(server.data + "/postgresql.auto.conf")
    assert "work_mem = '7MB'" in settings and "restore_command" not in settings
    assert not os.path.exists(server.data + "/recovery.signal")
    assert os.path.exists(server.data + "/backup_label")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_disk_without_room_is_refused_before_a_byte_is_written(story, work_dir):
    mount = lab.make_dir(work_dir + "/small")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=0777", "tmpfs", mount],
                      capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted")
    try:
        done = story.wa.run("restore", "-D", mount + "/data", "--tablespace-map",
                            "%s=%s/ts" % (story.location, mount), check=1)
        assert "has no room" in done.stderr and os.listdir(mount) == []
    finally:
        subprocess.run(["umount", mount], check=True)


def test_the_dry_run_writes_nothing_and_says_what_would_be_fetched(story, work_dir):
    target = work_dir + "/dry"
    plan = story.wa.json("restore", "-D", target, "--to-time", story.rows[12][2], "--dry-run")
    assert not os.path.exists(target)
    assert plan["backup"] == story.first and plan["chain"] == [story.first]
    assert plan["backup_bytes"] > 0 and plan["wal_bytes"] > 0
    assert json.dumps(plan["after"]) != "null"


# ---- incremental, 17 and later ----

def tree(directory):
    """Relative path: content, of everything that a manifest lists."""
    names = {f["Path"] for f in json.loads(lab.read_file(directory + "/backup_manifest"))["Files"]}
    found = {}
    for name in names:
        with open(os.path.join(directory, name), "rb") as f:
            found[name] = f.read()
    return found


CHANGES = (
    # grows, shrinks and grows again, goes, comes, is rewritten, is left alone
    ["UPDATE t SET s = upper(s) WHERE i % 977 = 0", "DELETE FROM shrinks WHERE i > 2000",
     "VACUUM shrinks", "DROP TABLE goes", "CREATE TABLE comes AS SELECT generate_series(1, 5000) AS i",
     "VACUUM FULL rewritten"],
    ["INSERT INTO t SELECT i, 'more' FROM generate_series(1, 30000) AS i",
     "INSERT INTO shrinks SELECT generate_series(1, 60000)", "TRUNCATE comes",
     "INSERT INTO comes SELECT generate_series(1, 10)", "CREATE INDEX ON t (s)"],
    ["UPDATE t SET s = 'x' WHERE i = 5", "DELETE FROM shrinks", "VACUUM shrinks",
     "INSERT INTO rewritten VALUES (1)"],
)


@pytest.mark.parametrize("version", [17, 18])
def test_a_chain_of_incremental_backups_becomes_what_pg_combinebackup_makes(
        make_pg, make_walagent, file_repository, work_dir, version):
    pg = make_pg(version, summarize_wal="on")
    wa = make_walagent(file_repository, pg)
    wa.run("init")
    wa.start()
    pg.sql("CREATE TABLE t AS SELECT i, repeat('s', 50) AS s FROM generate_series(1, 60000) AS i")
    for name in ("shrinks", "goes", "rewritten", "alone"):
        pg.sql("CREATE TABLE %s AS SELECT generate_series(1, 60000) AS i" % name)
    pg.sql("VACUUM")
    wa.run("backup")
    for statements in CHANGES:
        for statement in statements:
            pg.sql(statement)
        wa.run("backup", "--type", "incremental")
    labels = [b["label"] for b in wa.json("list")["backups"]]
    expected = {t: pg.value("SELECT md5(string_agg(x::text, '' ORDER BY x::text)) FROM %s x" % t)
                for t in ("t", "shrinks", "comes", "rewritten", "alone")}
    pg.switch_wal()
    archive = hand.archive_of(file_repository["url"])
    parts = [hand.restore(archive, label, "%s/part%d" % (work_dir, i), version).data
             for i, label in enumerate(labels)]
    for last in range(1, len(labels)):
        oracle = "%s/oracle%d" % (work_dir, last)
        pg.tool("pg_combinebackup", *parts[:last + 1], "-o", oracle)
        copy = lab.Postgres("%s/copy%d" % (work_dir, last), version)
        plan = wa.json("restore", "-D", copy.data, "--backup", labels[last], "--dry-run")
        assert plan["chain"] == labels[:last + 1]
        wa.run("restore", "-D", copy.data, "--backup", labels[last], "--no-recovery")
        pg.tool("pg_verifybackup", "-n", copy.data)
        ours, theirs = tree(copy.data), tree(oracle)
        for name in ("recovery.signal", "postgresql.auto.conf"):  # written by hand
            ours.pop(name, None)
            theirs.pop(name, None)
        assert sorted(ours.keys() ^ theirs.keys()) == []
        assert [n for n in ours if ours[n] != theirs[n]] == []
    server = lab.Postgres(work_dir + "/latest", version)
    wa.run("restore", "-D", server.data)
    wa.run("restore", "-D", server.data, "--delta")
    server.tool("pg_verifybackup", "-n", server.data)
    make_pg.adopt(server)
    server.start()
    lab.wait_until(lambda: not server.value("SELECT pg_is_in_recovery()"), 60, "recovery ends")
    assert {t: server.value("SELECT md5(string_agg(x::text, '' ORDER BY x::text)) FROM %s x" % t)
            for t in expected} == expected
