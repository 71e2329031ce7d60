"""Base backups of real servers: what is in them, what they refuse, what an interruption leaves."""
import glob
import os
import re
import signal
import subprocess

import psycopg2
import pytest

import hand
import lab
from fault_proxy import FaultProxy


@pytest.fixture
def streaming(make_walagent, file_repository):
    """streaming(pg): a walagent that was initialised and streams."""
    def make(pg, repository=None, **more):
        return follow(make_walagent(repository or file_repository, pg, **more))
    return make


def follow(wa):
    # What the server says of itself while it starts or stops is in a WARNING of the agent.
    wa.expect(lab.COMES_AND_GOES)
    wa.run("init")
    wa.start(ready=False)
    lab.wait_until(lambda: is_ready(wa), 30, "the agent streams")
    return wa


def is_ready(wa):
    try:
        return wa.http("/ready")[0] == 200
    except OSError:
        assert wa.is_running(), "the agent ended:\n" + wa.log[-4000:]
        return False


def backup(wa, *argv, **more):
    return wa.json("backup", *argv, **more)


def labels(wa):
    return [b["label"] for b in wa.json("list")["backups"]]


def leftovers(wa):
    """Names below backup/ in a directory repository."""
    root = os.path.join(wa.sections["repository"]["url"][len("file://"):], wa.name)
    return sorted(os.path.basename(d) for d in glob.glob(root + "/*/backup/*"))


def durable(wa, pg):
    """Everything written so far is in the archive."""
    target = pg.lsn()
    def there():
        stream = lab.json.loads(wa.http("/status")[1]).get("stream") or {}
        return stream.get("durable_lsn") and number(stream["durable_lsn"]) >= number(target)
    lab.wait_until(there, 30, "%s is durable" % target)


def number(lsn):
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def content(pg, tables):
    return {t: pg.sql("SELECT count(*), coalesce(sum(hashtext(t::text)::bigint), 0) FROM %s t" % t)
            for t in tables}


# ---- what is in a backup ----

def test_a_backup_under_load_is_restored_by_hand_with_tablespaces_and_odd_files(
        make_pg, major, streaming, work_dir):
    pg = make_pg(major)
    wa = streaming(pg)
    space = lab.make_dir(os.path.join(work_dir, "space"), 0o700)
    pg.sql("CREATE TABLESPACE elsewhere LOCATION '%s'" % space)
    pg.sql("CREATE TABLE far TABLESPACE elsewhere AS SELECT generate_series(1, 5000) AS i")
    pg.sql("CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 5000) AS i")
    pg.sql("CREATE TABLE never_filled (i int)")
    odd = ["with space", "qu'o\"te", "back\\slash", "tab\there", "ünïcode", "x" * 99, "-dash"]
    for name in odd:
        lab.write_file(os.path.join(pg.data, name), name)
    lab.write_file(os.path.join(pg.data, "zero"), "")
    raw = os.path.join(os.fsencode(pg.data), b"latin-\xe9")
    with open(raw, "wb") as f:
        f.write(b"bytes")
    lab.own(raw)
    pg.pgbench("-i", "-s", "2", "-q")
    with pg.connect() as session, session.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE passing AS SELECT generate_series(1, 5000) AS i")
        cursor.execute("SELECT pg_relation_filepath('passing')")
        passing = cursor.fetchone()[0]
        load = subprocess.Popen(lab.as_user(
            [os.path.join(pg.bin, "pgbench"), "-h", pg.dir, "-p", str(pg.port), "-U", "postgres",
             "-n", "-c", "2", "-T", "60", "postgres"]), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        try:
            info = backup(wa, "--label", "by hand", "--note", "ticket=4711")
        finally:
            load.terminate()
            load.wait()
    assert info["note"] == "by hand" and info["annotations"] == ["ticket=4711"]
    assert [t["location"] for t in info["tablespaces"]] == [space]
    assert info["major"] == major and info["data_checksums"] is True
    pg.sql("SELECT pg_switch_wal()")  # so that the last of it comes from chunks
    pg.sql("CREATE TABLE after_it AS SELECT generate_series(1, 10) AS i")
    durable(wa, pg)
    tables = ["far", "never_filled", "pgbench_accounts", "pgbench_history", "after_it"]
    expected = content(pg, tables)
    assert wa.run("verify").returncode == 0
    wa.stop()
    pg.stop()
    copy = hand.restore(hand.archive_of(wa.sections["repository"]["url"]), info["label"],
                        work_dir + "/copy", major)
    for name in odd:
        assert lab.read_file(os.path.join(copy.data, name)) == name
    assert os.path.getsize(os.path.join(copy.data, "zero")) == 0
    with open(os.path.join(os.fsencode(copy.data), b"latin-\xe9"), "rb") as f:
        assert f.read() == b"bytes"
    assert not os.path.exists(os.path.join(copy.data, passing))
    try:
        copy.start()
        lab.wait_until(lambda: copy.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
        assert content(copy, tables) == expected
        assert copy.value("SELECT count(*) FROM unlogged") == 0
        copy.tool("pg_amcheck", "-h", copy.dir, "-p", copy.port, "-U", "postgres", "--install-missing",
                  "postgres")
    finally:
        copy.stop("immediate")


def test_tables_and_databases_may_come_and_go_during_the_copy(make_pg, streaming, work_dir):
    pg = make_pg()
    wa = streaming(pg)
    pg.pgbench("-i", "-s", "3", "-q")
    pg.sql("CREATE TABLE steady AS SELECT generate_series(1, 1000) AS i")
    pg.sql("CREATE TABLE goes AS SELECT generate_series(1, 500) AS i")
    for i in range(4):
        pg.sql("CREATE DATABASE d%d" % i)
    wa.set("backup.rate_limit", "32MB")  # else it may end before much happens
    running = wa_popen(wa, "backup", "--json", "--checkpoint", "fast")
    lab.wait_until(lambda: leftovers(wa), 30, "the copy has begun")
    running.send_signal(signal.SIGSTOP)  # it must not end before anything has happened
    pg.sql("CREATE TABLE comes AS SELECT generate_series(1, 500) AS i")
    pg.sql("DROP TABLE goes")
    running.send_signal(signal.SIGCONT)  # for a database to go the server waits for all its processes
    i = 0
    while running.poll() is None:
        pg.sql("CREATE TABLE c%d AS SELECT generate_series(1, 500) AS i" % i)
        pg.sql("TRUNCATE pgbench_history")
        if i < 4:
            pg.sql("DROP DATABASE d%d" % i)
        if i > 0:
            pg.sql("DROP TABLE c%d" % (i - 1))
        i += 1
    out, err = running.communicate()
    assert running.returncode == 0, err
    assert i > 0, "no database went during the copy"
    durable(wa, pg)
    assert wa.run("verify").returncode == 0
    copy = hand.restore(hand.archive_of(wa.sections["repository"]["url"]),
                        lab.json.loads(out)["label"], work_dir + "/copy")
    try:
        copy.start()
        lab.wait_until(lambda: copy.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
        assert content(copy, ["steady"]) == content(pg, ["steady"])
        assert copy.value("SELECT count(*) FROM pg_database WHERE datname ~ '^d[0-9]'") == max(
            0, 4 - i)
    finally:
        copy.stop("immediate")


def wa_popen(wa, *argv, env=None):
    full = dict(lab.PLAIN_ENVIRONMENT)
    full.update(wa.environment(env))
    return subprocess.Popen(lab.as_user(wa.command(*argv)), env=full, cwd="/", text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def end_of(running, timeout=30):
    """(stdout, stderr) of a command that ends by itself."""
    try:
        return running.communicate(timeout=timeout * lab.PATIENCE)
    finally:
        running.kill()


def peak_kb(wa, *argv):
    """Peak resident memory of a command that must succeed."""
    running = wa_popen(wa, *argv, env={"ASAN_OPTIONS": "quarantine_size_mb=1"})
    out, err = running.stdout.read(), running.stderr.read()
    _, status, usage = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 0, out + err
    return usage.ru_maxrss


def test_people_and_programs_are_told_the_same_number_of_files(pg, streaming):
    wa = streaming(pg)
    said = re.search(r": (\d+) files, ", wa.run("backup").stdout)
    verified = re.search(r"1 backup \((\d+) files, ", wa.run("verify").stdout)
    listed, = wa.json("list")["backups"]
    assert int(said.group(1)) == int(verified.group(1)) == listed["regular_files"] > 900
    assert wa.json("verify")["files"] == listed["regular_files"]


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_files(make_pg, streaming):
    pg = make_pg(max_locks_per_transaction=1000, fsync="off")
    wa = streaming(pg)
    small = peak_kb(wa, "backup", "-q", "--jobs", "2")
    for batch in range(20):
        pg.sql("DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format("
               "'CREATE TABLE t_%s_%%s (i int)', i); END LOOP; END $$" % batch)
    durable(wa, pg)
    large = peak_kb(wa, "backup", "-q", "--jobs", "2")
    assert wa.json("list")["backups"][-1]["files"] > 20000
    assert large - small < 32 * 1024, (small, large)


def test_a_server_without_checksums_is_backed_up_and_the_list_says_so(make_pg, streaming):
    pg = make_pg(checksums=False)
    wa = streaming(pg)
    assert backup(wa)["data_checksums"] is False


def test_a_corrupt_page_fails_the_backup_and_leaves_none(make_pg, streaming):
    pg = make_pg()
    wa = streaming(pg)
    pg.sql("CREATE TABLE victim AS SELECT generate_series(1, 10000) AS i")
    path = pg.value("SELECT pg_relation_filepath('victim')")
    pg.stop()
    with open(os.path.join(pg.data, path), "r+b") as f:
        f.seek(2 * 8192 + 4000)
        f.write(b"\xde\xad\xbe\xef" * 8)
    pg.start()
    lab.wait_until(lambda: is_ready(wa), 30, "the agent streams again")
    done = wa.run("backup", check=3)
    assert "checksum" in done.stderr and "HINT:" in done.stderr, done.stderr
    assert done.stderr.count("walagent: ") == 1, done.stderr
    assert leftovers(wa) == [] and labels(wa) == []


# ---- interruptions ----

@pytest.mark.parametrize("limit", ["rate_limit", "upload_rate_limit"])
def test_a_terminated_backup_takes_back_what_it_wrote(make_pg, streaming, limit):
    pg = make_pg()
    wa = streaming(pg)
    pg.pgbench("-i", "-s", "5", "-q")
    wa.set("backup." + limit, {"rate_limit": "2MB", "upload_rate_limit": "32kB"}[limit])
    running = wa_popen(wa, "backup")
    lab.wait_until(lambda: leftovers(wa), 30, "the copy has begun")
    running.send_signal(signal.SIGTERM)
    _, err = end_of(running)
    assert running.returncode == 1 and "walagent: " in err, (running.returncode, err)
    assert leftovers(wa) == [] and labels(wa) == []


def test_a_rate_that_the_server_does_not_keep_to_is_refused(make_pg, streaming):
    wa = streaming(make_pg())
    wa.set("backup.rate_limit", "10kB")
    failed = wa.run("backup", check=None)
    assert failed.returncode == 2 and "rate_limit" in failed.stderr and "--source local" in failed.stderr
    assert leftovers(wa) == []
    wa.set("backup.rate_limit", "20GB")  # more than it can be told: that is no error
    wa.run("backup")


def uploads(ceph, bucket):
    _, _, body = ceph.client.request("GET", "/" + bucket, {"uploads": ""})
    return re.findall(r"<Key>([^<]*)</Key>", body.decode())


@pytest.fixture
def proxy(ceph):
    with FaultProxy(ceph.endpoint) as p:
        yield p


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_upload_leaves_no_parts_in_the_bucket(make_pg, ceph, proxy, streaming, how):
    pg = make_pg()
    bucket = ceph.make_bucket()
    wa = streaming(pg, dict(ceph.settings(bucket, "x"), s3_endpoint=proxy.url))
    with open(os.path.join(pg.data, "ballast"), "wb") as f:
        f.write(os.urandom(96 << 20))
    lab.own(f.name)
    silent = proxy.add("stall", method="PUT", path="partNumber=3", times=1000, seconds=600)
    running = wa_popen(wa, "backup")
    lab.wait_until(lambda: silent.hits and uploads(ceph, bucket), 60, "parts are uploaded")
    running.send_signal(how)
    end_of(running)
    assert running.returncode in (1, -9), running.returncode
    assert labels(wa) == []
    if how == signal.SIGKILL:
        assert uploads(ceph, bucket) and len(wa.json("list")["unfinished"]) == 1
        proxy.clear()
        wa.run("backup")
        assert wa.json("list")["unfinished"] == []
    assert uploads(ceph, bucket) == []
    left = {k.split("/backup/")[1].split("/")[0] for k in ceph.client.keys(bucket)
            if "/backup/" in k}
    assert left == set(labels(wa))


def test_a_server_that_goes_away_during_the_copy_fails_the_backup(make_pg, streaming):
    pg = make_pg()
    wa = streaming(pg)
    pg.pgbench("-i", "-s", "3", "-q")
    wa.set("backup.rate_limit", "2MB")
    running = wa_popen(wa, "backup")
    lab.wait_until(lambda: leftovers(wa), 30, "the copy has begun")
    pg.kill9()
    _, err = end_of(running)
    assert running.returncode in (1, 4), (running.returncode, err)
    assert err.count("walagent: ") == 1, err
    assert leftovers(wa) == [] and labels(wa) == []
    pg.start()


@pytest.mark.parametrize("point", ["backup-copied", "backup-before-commit"])
def test_a_backup_killed_before_its_commit_is_none_and_the_next_run_cleans_up(
        make_pg, streaming, point):
    wa = streaming(make_pg())
    done = wa.run("backup", check=None, env={"WALAGENT_CRASH_POINT": point})
    assert done.returncode in (-9, 137)
    assert len(leftovers(wa)) == 1
    listed = wa.json("list")
    assert listed["backups"] == [] and listed["unfinished"] == leftovers(wa)
    done = wa.run("backup")
    assert "interrupted" in done.stderr
    assert leftovers(wa) == labels(wa) and len(labels(wa)) == 1
    assert wa.json("list")["unfinished"] == []


def test_a_backup_killed_after_its_commit_is_one(make_pg, streaming):
    wa = streaming(make_pg())
    done = wa.run("backup", check=None, env={"WALAGENT_CRASH_POINT": "backup-after-commit"})
    assert done.returncode in (-9, 137)
    assert len(labels(wa)) == 1 and wa.json("list")["unfinished"] == []
    assert wa.run("verify").returncode == 0


def test_an_unfinished_run_of_another_machine_is_left_alone(make_pg, streaming):
    wa = streaming(make_pg())
    wa.run("backup", check=None, env={"WALAGENT_CRASH_POINT": "backup-copied"})
    label, = leftovers(wa)
    meta = os.path.join(hand.archive_of(wa.sections["repository"]["url"]), "backup", label,
                        "begin.json.meta")
    text = lab.read_file(meta)
    lab.write_file(meta, re.sub(r'"writer":"[^"]*"', '"writer":"elsewhere-1-00000000"', text))
    wa.run("backup")
    assert label in leftovers(wa) and label not in labels(wa)


def test_the_second_of_two_backups_says_so_and_succeeds(make_pg, streaming):
    pg = make_pg()
    wa = streaming(pg)
    wa.set("backup.rate_limit", "4MB")
    running = wa_popen(wa, "backup")
    lab.wait_until(lambda: leftovers(wa), 30, "the copy has begun")
    running.send_signal(signal.SIGSTOP)  # it must not end before the second one looks
    try:
        second = wa.run("backup")
    finally:
        running.send_signal(signal.SIGCONT)
    assert "another backup" in second.stderr
    _, err = end_of(running)
    assert running.returncode == 0, err
    assert len(labels(wa)) == 1


# ---- what is refused, before the copy ----

def test_broken_archiving_is_found_before_the_copy(make_pg, make_walagent, file_repository):
    pg = make_pg(archive_mode="on", archive_command="false")
    wa = make_walagent(file_repository, pg)
    wa.run("init")
    pg.switch_wal()
    lab.wait_until(lambda: pg.value("SELECT failed_count FROM pg_stat_archiver") > 0, 30, "failed")
    done = wa.run("backup", check=3)
    assert "archiving is broken" in done.stderr and "HINT:" in done.stderr
    assert leftovers(wa) == []
    pg.configure(archive_mode="off")
    pg.restart()
    done = wa.run("backup", check=3)
    assert "nobody archives" in done.stderr
    assert wa.run("backup", "--dry-run", check=3)


def test_an_agent_under_another_name_counts_as_one(make_pg, streaming):
    pg = make_pg()
    wa = streaming(pg)
    wa.stop()
    wa.set("cluster.conninfo", pg.conninfo(application_name="archive1"))
    wa.start(ready=False)
    lab.wait_until(lambda: is_ready(wa), 30, "the agent streams")
    assert wa.run("backup", "--dry-run").returncode == 0


def test_archive_command_alone_is_enough(make_pg, make_walagent, file_repository, work_dir):
    pg = make_pg(start=False)
    wa = make_walagent(file_repository, pg)
    pg.configure(archive_mode="on",
                 archive_command="%s archive-push -c %s %%p" % (wa.command()[0], wa.config_path))
    pg.start()
    wa.run("init", "--no-slot")
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    info = backup(wa)
    assert wa.run("verify").returncode == 0
    pg.switch_wal()
    copy = hand.restore(hand.archive_of(wa.sections["repository"]["url"]), info["label"],
                        work_dir + "/copy")
    try:
        copy.start()
        lab.wait_until(lambda: copy.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
        assert copy.value("SELECT count(*) FROM t") == 1000
    finally:
        copy.stop("immediate")


def test_another_clusters_repository_is_refused(make_pg, make_walagent, file_repository):
    a, b = make_pg(), make_pg(fresh=True)
    make_walagent(file_repository, a).run("init")
    wa = make_walagent(file_repository, b)
    for command in (["init"], ["backup"]):
        done = wa.run(*command, check=5)
        assert a.system_identifier in done.stderr and b.system_identifier in done.stderr
    wa.expect(".*")
    wa.start(ready=False)
    assert wa.process.wait(30) == 5
    wa.process = None


def test_a_wrong_secret_and_a_missing_bucket_are_said_in_one_line(pg, make_walagent, ceph):
    settings = ceph.settings(ceph.make_bucket(), "x")
    wrong = make_walagent(dict(settings, s3_secret_access_key="no"), pg)
    missing = make_walagent(dict(settings, url="s3://nowhere-to-be-found/x"), pg)
    for wa, word in ((wrong, "s3_secret_access_key|secret"), (missing, "nowhere-to-be-found")):
        done = wa.run("init", check=(1, 2, 4))
        lines = done.stderr.strip().splitlines()
        assert len(lines) <= 2 and lines[0].startswith("walagent: "), done.stderr
        assert re.search(word, done.stderr), done.stderr
        assert "HINT:" in done.stderr, done.stderr


def test_an_unreachable_server_is_said_in_one_line(make_walagent, file_repository, work_dir):
    wa = make_walagent(file_repository, None, settings={
        "cluster.conninfo": "host=%s port=1 user=postgres" % work_dir})
    done = wa.run("init", check=4)
    assert done.stderr.startswith("walagent: ") and work_dir in done.stderr


def test_a_major_that_is_too_old_is_refused(make_pg, make_walagent, file_repository):
    if len(os.environ.get("WALAGENT_MAJORS", "15").split()) < 2:
        pytest.skip("brings in PostgreSQL 13 (tests/run --majors)")
    wa = make_walagent(file_repository, make_pg(13))
    done = wa.run("init", check=(1, 2))
    assert "13" in done.stderr and "15" in done.stderr, done.stderr
    assert objects_of(file_repository) == []


def objects_of(repository):
    root = repository["url"][len("file://"):]
    return [f for _, _, files in os.walk(root) for f in files]


def test_incremental_backups_need_17(pg, streaming):
    wa = streaming(pg)
    done = wa.run("backup", "--type", "incremental", check=(1, 2))
    assert "17" in done.stderr
    assert leftovers(wa) == []


# ---- standbys ----

def test_a_standby_can_be_backed_up(make_pg, make_walagent, file_repository, work_dir):
    primary = make_pg()
    wa = follow(make_walagent(file_repository, primary))
    standby = primary.standby(work_dir + "/standby")
    make_pg.adopt(standby)
    standby.start()
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    standby.caught_up_with(primary)
    beside = make_walagent(file_repository, standby)
    info = backup(beside)
    assert info["from_standby"] is True
    durable(wa, primary)
    assert wa.run("verify").returncode == 0
    copy = hand.restore(hand.archive_of(wa.sections["repository"]["url"]), info["label"],
                        work_dir + "/copy")
    try:
        copy.start()
        lab.wait_until(lambda: copy.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
        assert copy.value("SELECT count(*) FROM t") == 1000
    finally:
        copy.stop("immediate")


def test_a_promotion_during_a_standbys_backup_never_makes_a_wrong_one(
        make_pg, make_walagent, file_repository, work_dir):
    primary = make_pg()
    follow(make_walagent(file_repository, primary))
    primary.pgbench("-i", "-s", "3", "-q")
    standby = primary.standby(work_dir + "/standby")
    make_pg.adopt(standby)
    standby.start()
    standby.caught_up_with(primary)
    beside = make_walagent(file_repository, standby, settings={"backup.rate_limit": "2MB"})
    running = wa_popen(beside, "backup", "--wal-timeout", "5s")
    lab.wait_until(lambda: leftovers(beside), 30, "the copy has begun")
    standby.promote()
    _, err = end_of(running)
    assert running.returncode in (1, 3, 4), (running.returncode, err)  # PostgreSQL refuses it
    assert "walagent: " in err
    assert leftovers(beside) == [] and labels(beside) == []


# ---- incremental, 17 and later ----

@pytest.fixture
def summarizing(make_pg, major, streaming):
    """A server of which incremental backups can be taken, and its walagent."""
    if major < 17:
        pytest.skip("incremental backups come with PostgreSQL 17")
    pg = make_pg(major, summarize_wal="on")
    return pg, streaming(pg)


def full_and_incremental(pg, wa, *argv):
    """A full backup (argv: how), an incremental one on it, and what table t holds then."""
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 200000) AS i")
    full = backup(wa, *argv)
    pg.sql("UPDATE t SET i = -i WHERE i < 100")
    incremental = backup(wa, "--type", "incremental")
    assert incremental["parent"] == full["label"]
    assert incremental["raw_bytes"] < full["raw_bytes"] / 2
    durable(wa, pg)
    return full, incremental, content(pg, ["t"])


def test_an_incremental_backup_is_combined_with_its_parent(make_pg, major, summarizing, work_dir):
    pg, wa = summarizing
    full, incremental, expected = full_and_incremental(pg, wa)
    assert wa.run("verify").returncode == 0
    restored = lab.Postgres(work_dir + "/restored", major)
    wa.run("restore", "-D", restored.data)
    make_pg.adopt(restored)
    restored.tool("pg_verifybackup", "-n", "-q", restored.data)
    restored.start()
    lab.wait_until(lambda: restored.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
    assert content(restored, ["t"]) == expected
    archive = hand.archive_of(wa.sections["repository"]["url"])
    parts = [hand.restore(archive, b["label"], work_dir + "/part%d" % i, major)
             for i, b in enumerate((full, incremental))]
    copy = lab.Postgres(work_dir + "/copy", major)
    copy.tool("pg_combinebackup", parts[0].data, parts[1].data, "-o", copy.data)
    try:
        copy.start()
        lab.wait_until(lambda: copy.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
        assert content(copy, ["t"]) == expected
    finally:
        copy.stop("immediate")
