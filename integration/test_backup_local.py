"""Base backups that are read from the data directory: what is in them, and what is refused."""
import glob
import json
import os
import signal
import subprocess
import threading

import pytest

import lab
from test_backup import backup, content, durable, end_of, follow, is_ready, labels, leftovers, wa_popen
from test_backup import full_and_incremental
from test_backup import streaming, summarizing  # noqa: F401  (fixtures)


def local(wa, *argv, **more):
    return backup(wa, "--source", "local", *argv, **more)


def restore(wa, make_pg, directory, major, *argv):
    """Restored, checked by pg_verifybackup, not started."""
    copy = lab.Postgres(directory, major)
    wa.run("restore", "-D", copy.data, *argv)
    make_pg.adopt(copy)
    copy.tool("pg_verifybackup", "-n", "-q", copy.data)
    return copy


def open_up(copy):
    copy.start()
    lab.wait_until(lambda: copy.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
    return copy


class Load:
    """pgbench and tables that come and go, while the block runs."""

    def __init__(self, pg):
        self.pg, self.rounds = pg, 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._ddl)

    def __enter__(self):
        self.bench = subprocess.Popen(lab.as_user(
            [os.path.join(self.pg.bin, "pgbench"), "-h", self.pg.dir, "-p", str(self.pg.port), "-U",
             "postgres", "-n", "-c", "2", "-T", "120", "postgres"]), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.thread.start()
        return self

    def _ddl(self):
        while not self.stopping.is_set():
            self.pg.sql("CREATE TABLE passing AS SELECT generate_series(1, 500) AS i")
            self.pg.sql("CREATE UNLOGGED TABLE loose AS SELECT generate_series(1, 500) AS i")
            self.pg.sql("TRUNCATE far_passing")
            self.pg.sql("INSERT INTO far_passing SELECT generate_series(1, 20000)")
            self.pg.sql("DROP TABLE passing, loose")
            self.rounds += 1

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()
        self.bench.terminate()
        self.bench.wait()


def test_a_local_backup_under_load_is_restored_and_its_data_are_equal(
        make_pg, major, streaming, work_dir):
    pg = make_pg(major)
    wa = streaming(pg)
    space = lab.make_dir(os.path.join(work_dir, "space"), 0o700)
    pg.sql("CREATE TABLESPACE elsewhere LOCATION '%s'" % space)
    pg.sql("CREATE TABLE far TABLESPACE elsewhere AS SELECT generate_series(1, 5000) AS i")
    pg.sql("CREATE TABLE far_passing (i int) TABLESPACE elsewhere")
    pg.sql("CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 5000) AS i")
    pg.sql("CREATE TABLE never_filled (i int)")
    pg.pgbench("-i", "-s", "3", "-q")
    odd = os.path.join(os.fsencode(pg.data), b"latin-\xe9")
    with open(odd, "wb") as f:
        f.write(b"bytes")
    lab.own(odd)
    lab.write_file(os.path.join(lab.make_dir(os.path.join(pg.data, "pgsql_tmp_walagent")), "x"), "x")
    unlogged = pg.value("SELECT pg_relation_filepath('unlogged')")
    with pg.connect() as session, session.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE mine AS SELECT generate_series(1, 5000) AS i")
        cursor.execute("SELECT pg_relation_filepath('mine')")
        mine = cursor.fetchone()[0]
        with Load(pg) as load:
            info = local(wa, "--label", "here", "--note", "ticket=4711")
    assert load.rounds > 0
    assert info["source"] == "local" and info["note"] == "here"
    assert info["data_checksums"] is True and info["from_standby"] is False
    assert [t["location"] for t in info["tablespaces"]] == [space]
    durable(wa, pg)
    tables = ["far", "far_passing", "never_filled", "pgbench_accounts", "pgbench_history"]
    expected = content(pg, tables)
    assert wa.run("verify").returncode == 0
    mapped = lab.make_dir(os.path.join(work_dir, "mapped"), 0o700)
    copy = restore(wa, make_pg, work_dir + "/copy", major, "--tablespace-map",
                   "%s=%s" % (space, mapped))
    for name in (mine, unlogged, "pgsql_tmp_walagent", "postmaster.pid", "postmaster.opts"):
        assert not os.path.exists(os.path.join(copy.data, name)), name
    assert os.path.exists(os.path.join(copy.data, unlogged + "_init"))
    with open(os.path.join(os.fsencode(copy.data), b"latin-\xe9"), "rb") as f:
        assert f.read() == b"bytes"
    open_up(copy)
    assert content(copy, tables) == expected
    assert copy.value("SELECT count(*) FROM unlogged") == 0
    copy.tool("pg_amcheck", "-h", copy.dir, "-p", copy.port, "-U", "postgres", "--install-missing",
              "postgres")


def names(wa, label):
    """Paths and types in files.zst."""
    root = wa.sections["repository"]["url"][len("file://"):]
    path = glob.glob("%s/%s/*/backup/%s/files.zst" % (root, wa.name, label))[0]
    text = lab.run(["zstd", "-dcq", path])
    lines = [json.loads(line) for line in text.stdout.splitlines()]
    return {(line.get("p", line.get("x")), line["t"]) for line in lines}


@pytest.mark.parametrize("source", ["remote", "local"])
def test_databases_copied_in_place_and_tablespaces_in_place_come_back(
        make_pg, streaming, work_dir, source):
    """A database copied file by file (and an in-place tablespace) has its files before its WAL says so."""
    pg = make_pg(allow_in_place_tablespaces="on")
    wa = streaming(pg)
    pg.sql("CREATE TABLESPACE inside LOCATION ''")
    pg.sql("CREATE TABLE near TABLESPACE inside AS SELECT generate_series(1, 5000) AS i")
    pg.sql("CREATE DATABASE pattern")
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 20000) AS i", dbname="pattern")
    pg.pgbench("-i", "-s", "2", "-q")
    running = wa_popen(wa, "backup", "--json", "--checkpoint", "fast", "--source", source)
    made = []
    while running.poll() is None and len(made) < 12:
        made.append("copied%d" % len(made))
        where = "inside" if len(made) % 2 else "pg_default"
        pg.sql("CREATE DATABASE %s TEMPLATE pattern STRATEGY file_copy TABLESPACE %s" % (made[-1], where))
    out, err = running.communicate()
    assert running.returncode == 0, err
    assert made, "nothing happened during the copy"
    durable(wa, pg)
    assert wa.run("verify").returncode == 0
    copy = open_up(restore(wa, make_pg, work_dir + "/copy", 15, "--to-latest"))
    assert content(copy, ["near", "pgbench_accounts"]) == content(pg, ["near", "pgbench_accounts"])
    for name in made:
        assert copy.value("SELECT count(*) FROM t", dbname=name) == 20000
    assert copy.value("SELECT spcname FROM pg_database d JOIN pg_tablespace s ON s.oid = dattablespace "
                      "WHERE datname = '%s'" % made[0]) == "inside"


def test_a_local_backup_holds_what_a_remote_one_holds(make_pg, major, streaming):
    pg = make_pg(major, autovacuum="off")
    wa = streaming(pg)
    pg.sql("CREATE UNLOGGED TABLE u AS SELECT generate_series(1, 5000) AS i")
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS i")
    pg.sql("VACUUM t")
    here, there = local(wa), backup(wa)
    assert names(wa, here["label"]) == names(wa, there["label"])


def test_an_incremental_backup_builds_on_a_local_one(make_pg, major, summarizing, work_dir):
    pg, wa = summarizing
    _, _, expected = full_and_incremental(pg, wa, "--source", "local")
    copy = open_up(restore(wa, make_pg, work_dir + "/copy", major))
    assert content(copy, ["t"]) == expected
    done = wa.run("backup", "--type", "incremental", "--source", "local", check=2)
    assert "data directory" in done.stderr and "HINT:" in done.stderr


def test_pg_wal_may_be_a_link(make_pg, streaming, work_dir):
    pg = make_pg()
    pg.stop()
    os.rename(os.path.join(pg.data, "pg_wal"), work_dir + "/wal")
    os.symlink(work_dir + "/wal", os.path.join(pg.data, "pg_wal"))
    pg.start()
    wa = streaming(pg)
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    local(wa)
    copy = restore(wa, make_pg, work_dir + "/copy", 15)
    assert os.path.isdir(os.path.join(copy.data, "pg_wal"))
    assert not os.path.islink(os.path.join(copy.data, "pg_wal"))
    assert open_up(copy).value("SELECT count(*) FROM t") == 1000


def test_a_standby_can_be_the_source(make_pg, major, make_walagent, file_repository, work_dir):
    primary = make_pg(major)
    wa = follow(make_walagent(file_repository, primary))
    standby = primary.standby(work_dir + "/standby")
    make_pg.adopt(standby)
    standby.start()
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    standby.caught_up_with(primary)
    both = "host=%s,%s port=%d,%d user=postgres" % (primary.dir, standby.dir, primary.port,
                                                    standby.port)
    beside = make_walagent(file_repository, standby, settings={"cluster.conninfo": both})
    info = local(beside)
    assert info["from_standby"] is True and info["source"] == "local"
    durable(wa, primary)
    assert wa.run("verify").returncode == 0
    copy = open_up(restore(wa, make_pg, work_dir + "/copy", major))
    assert copy.value("SELECT count(*) FROM t") == 1000


# ---- damage ----

def test_a_corrupt_page_is_named_and_no_backup_is_made(make_pg, major, streaming):
    pg = make_pg(major)
    wa = streaming(pg)
    pg.sql("CREATE TABLE victim AS SELECT generate_series(1, 10000) AS i")
    path = pg.value("SELECT pg_relation_filepath('victim')")
    pg.stop()
    with open(os.path.join(pg.data, path), "r+b") as f:
        f.seek(2 * 8192 + 4000)
        f.write(b"\xde\xad\xbe\xef" * 8)
    pg.start()
    lab.wait_until(lambda: is_ready(wa), 30, "the agent streams again")
    done = wa.run("backup", "--source", "local", check=3)
    assert 'block 2 of "%s"' % path in done.stderr and "HINT:" in done.stderr, done.stderr
    assert done.stderr.count("walagent: ") == 1, done.stderr
    assert leftovers(wa) == [] and labels(wa) == []


# ---- interruptions ----

def test_a_terminated_local_backup_takes_back_what_it_wrote(make_pg, streaming):
    pg = make_pg()
    wa = streaming(pg)
    wa.set("backup.rate_limit", "2MB")
    running = wa_popen(wa, "backup", "--source", "local")
    lab.wait_until(lambda: leftovers(wa), 30, "the copy has begun")
    running.send_signal(signal.SIGTERM)
    _, err = end_of(running)
    assert running.returncode == 1 and "walagent: " in err, (running.returncode, err)
    assert leftovers(wa) == [] and labels(wa) == []


@pytest.mark.parametrize("point", ["backup-copied", "backup-before-commit"])
def test_a_killed_local_backup_is_none_and_the_next_run_cleans_up(make_pg, streaming, point):
    wa = streaming(make_pg())
    done = wa.run("backup", "--source", "local", check=None, env={"WALAGENT_CRASH_POINT": point})
    assert done.returncode in (-9, 137)
    assert wa.json("list")["backups"] == [] and len(leftovers(wa)) == 1
    assert "interrupted" in wa.run("backup", "--source", "local").stderr
    assert leftovers(wa) == labels(wa) and len(labels(wa)) == 1


@pytest.mark.parametrize("how", ["session", "server"])
def test_a_backup_whose_session_ends_is_none(make_pg, streaming, how):
    pg = make_pg()
    wa = streaming(pg)
    wa.set("backup.rate_limit", "100kB")  # all of it would take some minutes
    running = wa_popen(wa, "backup", "--source", "local")
    lab.wait_until(lambda: leftovers(wa), 30, "the copy has begun")
    if how == "session":
        assert pg.value("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                        " WHERE application_name = 'walagent backup'") == 1
    else:
        pg.kill9()
    _, err = end_of(running)
    assert running.returncode in (1, 4), (running.returncode, err)
    assert err.count("walagent: ") == 1, err
    assert leftovers(wa) == [] and labels(wa) == []
    if how == "server":
        pg.start()


# ---- what is refused before anything is written ----

def refused(wa, code, *words):
    done = wa.run("backup", "--source", "local", check=code)
    assert all(word in done.stderr for word in words), done.stderr
    assert done.stderr.count("walagent: ") == 1 and "HINT:" in done.stderr, done.stderr
    assert leftovers(wa) == []


def test_a_wrong_data_directory_is_refused(make_pg, streaming, work_dir):
    pg, other = make_pg(), make_pg(fresh=True)
    wa = streaming(pg)
    standby = pg.standby(work_dir + "/standby")
    make_pg.adopt(standby)
    standby.start()
    wa.set("cluster.data_dir", None)
    refused(wa, 2, "data_dir")
    wa.set("cluster.data_dir", work_dir + "/nowhere")
    refused(wa, 2, work_dir + "/nowhere")
    wa.set("cluster.data_dir", other.data)
    refused(wa, 2, other.data, pg.system_identifier, other.system_identifier)
    wa.set("cluster.data_dir", standby.data)  # a copy of the same cluster, another server's
    refused(wa, 2, standby.data)
    closed = lab.make_dir(os.path.join(work_dir, "closed"), 0o755)
    lab.make_dir(closed + "/global", 0o700)
    os.chown(closed + "/global", 0, 0)  # of another user
    wa.set("cluster.data_dir", closed)
    refused(wa, 1, closed + "/global/pg_control")
    assert labels(wa) == []


def test_a_role_that_may_not_begin_backups_is_told_the_grant(make_pg, streaming):
    pg = make_pg()
    wa = streaming(pg)
    pg.sql("CREATE ROLE plain LOGIN REPLICATION")
    pg.sql("GRANT pg_monitor TO plain")
    wa.set("cluster.conninfo", pg.conninfo(user="plain", dbname=None))
    refused(wa, 1, "GRANT EXECUTE")
    pg.sql("GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean)"
           " TO plain")
    local(wa)
    assert len(labels(wa)) == 1
