"""A second repository: what was confirmed is in both, whenever the agent is killed and whichever of them
is away; and a copy alone is enough to restore from."""
import filecmp
import os
import random
import shutil
import signal
import threading
import time

import psycopg2
import pytest

import lab
from test_backup import backup, durable, follow, is_ready, number
from test_stream import Load, keeping, restart_lsn, write_wal  # noqa: F401


@pytest.fixture(params=["file", "swift"])
def offsite(request, work_dir):
    """The [repository offsite] section."""
    if request.param == "file":
        return {"url": "file://" + lab.make_dir(os.path.join(work_dir, "offsite"), 0o750)}
    server = request.getfixturevalue("swift")
    return server.settings(server.make_bucket(), "copy")


@pytest.fixture
def beside(work_dir):
    return {"url": "file://" + lab.make_dir(os.path.join(work_dir, "offsite"), 0o750)}


def mirrored(make_walagent, repository, mirror, pg, **settings):
    more = {"repository offsite." + key: value for key, value in mirror.items()}
    more["archive.tail_interval"] = "100ms"
    more.update(settings)
    return make_walagent(repository, pg, settings=more)


def root(section):
    return section["url"][len("file://"):]


def tree(section):
    """path: size, of a directory repository."""
    top, found = root(section), {}
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            if "/probe/" not in path and not name.startswith("."):  # left by a kill
                found[os.path.relpath(path, top)] = os.path.getsize(path)
    return found


def assert_same(main, mirror):
    """Byte for byte."""
    names = sorted(tree(main))
    assert names == sorted(tree(mirror))
    same, different, unread = filecmp.cmpfiles(root(main), root(mirror), names, shallow=False)
    assert not different and not unread and len(same) == len(names)


def end_of(wa, *argv):
    """Where the newest window ends."""
    return max(number(w["end_lsn"]) for w in wa.json("list", *argv)["windows"])


def mended(wa):
    """The agent has compared the mirror after its start, and copied what a kill had left out."""
    def complete():
        mirror = lab.json.loads(wa.http("/status")[1])["repositories"][1]
        return mirror["compared_time"] is not None and mirror["complete"] and mirror["missing"] == 0
    lab.wait_until(complete, 30, "the agent finds the mirror complete")


def assert_complete(wa):
    """The mirror has every object of the main repository, and each of them is right."""
    compared, = wa.json("mirror", "--dry-run")["mirrors"]
    assert compared["complete"] and compared["missing"] == compared["different"] == 0, compared
    result = wa.json("verify", "--repository", "offsite")
    assert result["damage"] == [] and result["segments"] > 0


# ---- killed between the one and the other ----

@pytest.mark.parametrize("point", ["mirror-before-put:1", "mirror-before-put:4", "mirror-before-put:23",
                                   "chunk-after-put:3", "segment-after-put:2"])
def test_what_was_acknowledged_is_in_the_mirror_after_a_kill(keeping, make_walagent, file_repository,
                                                             offsite, point):
    pg = keeping
    wa = follow(mirrored(make_walagent, file_repository, offsite, pg))
    backup(wa)
    durable(wa, pg)
    wa.stop()
    load = Load(pg)
    for _ in range(2):
        wa.start(env={"WALAGENT_CRASH_POINT": point}, ready=False)
        assert wa.process.wait(120) == -signal.SIGKILL, wa.log[-3000:]
        wa.process = None
        acknowledged = restart_lsn(pg)
        assert end_of(wa, "--repository", "offsite") >= acknowledged
        assert end_of(wa) >= acknowledged
    wa.start(ready=False)
    lab.wait_until(lambda: is_ready(wa), 30, "the agent streams")
    load.stop()
    durable(wa, pg)
    mended(wa)
    wa.stop()
    assert_complete(wa)
    if offsite["url"].startswith("file:"):
        assert_same(file_repository, offsite)


@pytest.mark.parametrize("kills", [8, pytest.param(60, marks=pytest.mark.long)])
def test_random_kills_leave_what_was_acknowledged_in_the_mirror(keeping, make_walagent, file_repository,
                                                                offsite, kills):
    seed = int(os.environ.get("WALAGENT_SEED") or random.randrange(1 << 32))
    print("WALAGENT_SEED=%d" % seed)
    rng, pg, told, moved = random.Random(seed), keeping, 0, 0
    wa = follow(mirrored(make_walagent, file_repository, offsite, pg))
    backup(wa)
    load = Load(pg, seconds=kills * 60)
    for n in range(kills):
        time.sleep(rng.uniform(0, 2))
        if n % 2:  # how far it has got by then depends on the machine
            lab.wait_until(lambda: restart_lsn(pg) > told, 15, "the slot moves")
        wa.kill9()
        now = restart_lsn(pg)
        assert end_of(wa, "--repository", "offsite") >= now
        moved += now > told
        told = now
        wa.start(ready=False)
    lab.wait_until(lambda: is_ready(wa), 30, "the agent streams")
    load.stop()
    durable(wa, pg)
    mended(wa)
    wa.stop()
    assert moved > kills / 4, "the slot hardly moved: %d" % moved
    assert_complete(wa)


def test_a_push_that_was_killed_in_between_is_in_the_mirror_when_it_succeeds(keeping, make_walagent,
                                                                             file_repository, beside):
    pg = keeping
    wa = mirrored(make_walagent, file_repository, beside, pg)
    wa.run("init", "--no-slot")
    killed = 0
    for n in range(1, 30):
        pg.sql("SELECT txid_current()")
        path = os.path.join(pg.data, "pg_wal", pg.switch_wal())
        done = wa.run("archive-push", path, check=None,
                      env={"WALAGENT_CRASH_POINT": "mirror-before-put:%d" % n})
        if done.returncode == 0:
            break
        killed += 1
        wa.run("archive-push", path)
        assert_same(file_repository, beside)
    assert killed >= 1 and done.returncode == 0


@pytest.mark.parametrize("point", ["mirror-before-put:1", "mirror-before-put:2", "mirror-before-commit:1",
                                   "mirror-before-put:3"])
def test_a_backup_that_was_killed_in_between_is_none_and_the_next_one_is_whole(pg, make_walagent,
                                                                               file_repository, beside, point):
    wa = follow(mirrored(make_walagent, file_repository, beside, pg))
    wa.run("backup", check=None, env={"WALAGENT_CRASH_POINT": point})
    for alone in ([], ["--repository", "offsite"]):
        assert all(b["usable"] for b in wa.json("list", *alone)["backups"])
    backup(wa)
    assert wa.json("verify", "--repository", "offsite")["damage"] == []
    assert wa.json("mirror", "-n")["mirrors"][0]["different"] == 0


# ---- one of them is lost or away ----

def test_the_copy_alone_restores_when_the_main_repository_is_lost(pg, make_pg, make_walagent,
                                                                  file_repository, offsite, work_dir):
    wa = follow(mirrored(make_walagent, file_repository, offsite, pg))
    backup(wa)
    pg.sql("CREATE TABLE ledger AS SELECT generate_series(1, 1000) AS i")
    pg.switch_wal()
    pg.sql("INSERT INTO ledger VALUES (1001)")
    durable(wa, pg)
    wa.stop()
    shutil.move(root(file_repository), root(file_repository) + ".lost")
    done = wa.run("list", check=4)
    assert "--repository offsite" in done.stderr
    assert "--repository offsite" in wa.run("lineage", check=4).stderr
    assert wa.json("lineage", "--repository", "offsite")["branches"]
    assert "lineage show" in wa.run("lineage", "seal", "--repository", "offsite", check=2).stderr
    assert "--repository" not in wa.run("mirror", check=4).stderr
    assert wa.json("list", "--repository", "offsite")["hole_count"] == 0
    assert wa.json("verify", "--repository", "offsite")["damage"] == []
    assert wa.run("log", "--repository", "offsite").stdout
    copy = lab.Postgres(os.path.join(work_dir, "copy"), 15)
    wa.run("restore", "-D", copy.data, "--repository", "offsite", "--set", "archive_mode=off")
    make_pg.adopt(copy)
    copy.start()
    lab.wait_until(lambda: copy.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
    assert copy.value("SELECT sum(i) FROM ledger") == 500500 + 1001
    # the copy becomes the main repository
    del wa.sections["repository offsite"]
    wa.sections["repository"] = dict(offsite)
    wa.write_config()
    wa.start(ready=False)
    lab.wait_until(lambda: is_ready(wa), 30, "the agent goes on with the copy")
    pg.sql("INSERT INTO ledger VALUES (1002)")
    durable(wa, pg)
    assert wa.json("list", "--require", "no-hole")["hole_count"] == 0


def test_every_commit_that_returned_is_in_the_copy_alone(make_pg, major, make_walagent, file_repository,
                                                         offsite, work_dir):
    pg = make_pg(major)
    wa = follow(mirrored(make_walagent, file_repository, offsite, pg))
    backup(wa)
    pg.sql("CREATE TABLE t (x int)")
    pg.sql("ALTER SYSTEM SET synchronous_standby_names = 'walagent'")
    pg.reload()
    lab.wait_until(lambda: lab.json.loads(wa.http("/status")[1])["stream"]["synchronous"], 30,
                   "the server waits for the agent")
    returned = []

    def commit():
        try:
            with pg.connect() as connection, connection.cursor() as cursor:
                for x in range(1, 1000000):
                    cursor.execute("INSERT INTO t VALUES (%s)", (x,))
                    returned.append(x)
        except psycopg2.Error:
            pass  # the server is killed while the commit waits
    client = threading.Thread(target=commit, daemon=True)
    client.start()
    lab.wait_until(lambda: len(returned) > 20, 30, "commits return")
    time.sleep(random.uniform(0, 1))
    wa.kill9()
    last = returned[-1]
    pg.kill9()
    client.join(60)
    shutil.move(root(file_repository), root(file_repository) + ".lost")
    copy = lab.Postgres(os.path.join(work_dir, "copy"), major)
    wa.run("restore", "-D", copy.data, "--repository", "offsite", "--set", "synchronous_standby_names=")
    make_pg.adopt(copy)
    copy.start()
    lab.wait_until(lambda: copy.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
    assert copy.value("SELECT count(*) FROM t WHERE x <= %s", last) == last
    assert copy.value("SELECT max(x) FROM t") >= returned[-1]


def test_nothing_is_acknowledged_while_the_mirror_is_away(pg, make_walagent, file_repository, beside):
    wa = follow(mirrored(make_walagent, file_repository, beside, pg))
    backup(wa)
    pg.sql("CREATE TABLE t (x int)")
    durable(wa, pg)
    shutil.move(root(beside), root(beside) + ".away")
    pg.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    target = number(pg.lsn())

    def repositories():
        return lab.json.loads(wa.http("/status")[1])["repositories"]
    lab.wait_until(lambda: not repositories()[1]["up"], 30, "the mirror is seen to be down")
    assert "offsite" in repositories()[1]["last_error"]
    assert 'walagent_mirror_up{repository="offsite"} 0' in wa.http("/metrics")[1]
    assert wa.json("lineage")["branches"]  # the main repository answers who only asks
    assert "DOWN" in wa.run("status").stdout
    assert restart_lsn(pg) < target
    durable_lsn = lab.json.loads(wa.http("/status")[1])["stream"]["durable_lsn"]
    assert number(durable_lsn) < target
    assert not os.path.exists(root(beside)), "a directory that is away was made anew"
    shutil.move(root(beside) + ".away", root(beside))
    durable(wa, pg)
    wa.stop()
    assert_same(file_repository, beside)


def test_archive_get_reads_a_damaged_segment_from_the_mirror(pg, make_walagent, file_repository, beside,
                                                             work_dir):
    wa = follow(mirrored(make_walagent, file_repository, beside, pg))
    segment = pg.switch_wal()
    durable(wa, pg)

    def found():
        return [p for p in tree(file_repository) if p.endswith(segment + ".zst") and "/wal/" in p]
    lab.wait_until(found, 30, "the segment is whole")
    wa.stop()
    shutil.rmtree(os.path.join(root(file_repository), "main", str(pg.system_identifier), "tail"))
    path = os.path.join(root(file_repository), found()[0])
    with open(path, "r+b") as f:
        f.seek(os.path.getsize(path) // 2)
        f.write(b"\xff\x00\xff\x00\xff\x00")
    target = os.path.join(work_dir, "got")
    lab.make_dir(target, 0o777)
    done = wa.run("archive-get", segment, os.path.join(target, segment))
    assert "offsite" in done.stderr
    assert filecmp.cmp(os.path.join(target, segment), os.path.join(pg.data, "pg_wal", segment), False)
    # Without the main repository "not there" is said of nothing.
    shutil.move(root(file_repository), root(file_repository) + ".lost")
    wa.run("archive-get", segment, os.path.join(target, "again"))
    wa.run("archive-get", segment[:-2] + "F0", os.path.join(target, "absent"), check=4)
    wa.run("archive-get", "--repository", "offsite", segment[:-2] + "F0",
           os.path.join(target, "absent"), check=1)


def test_a_restore_reads_a_damaged_segment_from_the_mirror(pg, make_pg, make_walagent, file_repository, beside,
                                                           work_dir):
    wa = follow(mirrored(make_walagent, file_repository, beside, pg))
    backup(wa)
    pg.sql("CREATE TABLE ledger AS SELECT generate_series(1, 1000) AS i")
    segment = pg.switch_wal()
    pg.sql("INSERT INTO ledger VALUES (1001)")
    durable(wa, pg)

    def found():
        return [p for p in tree(file_repository) if p.endswith(segment + ".zst") and "/wal/" in p]
    lab.wait_until(found, 30, "the segment is whole")
    wa.stop()
    main = os.path.join(root(file_repository), "main", str(pg.system_identifier))
    shutil.rmtree(os.path.join(main, "tail", os.path.basename(os.path.dirname(os.path.dirname(found()[0]))),
                               segment), ignore_errors=True)  # its chunks, which may be there still
    path = os.path.join(root(file_repository), found()[0])
    with open(path, "r+b") as f:
        f.seek(os.path.getsize(path) // 4)
        f.write(b"\xff\x00\xff\x00\xff\x00")
    # verify calls it damage, and what lies behind it reachable
    damage, = wa.json("verify", "--wal", check=3)["damage"]
    assert damage["kind"] == "segment" and segment in damage["object"], damage
    assert damage["mirror"] == "offsite" and "can't be reached" not in damage["cost"], damage
    told = wa.run("verify", "--wal", check=3).stdout
    assert "nothing as long as repository \"offsite\" has it whole" in told, told
    copy = lab.Postgres(os.path.join(work_dir, "copy"), 15)
    done = wa.run("restore", "-D", copy.data, "--set", "archive_mode=off")
    assert "WARNING: 1 WAL segment is damaged in the main repository" in done.stdout
    assert "1 read was answered by repository \"offsite\": the main one has it damaged\n" in done.stderr
    assert f'"{segment}", from "offsite"' in done.stdout
    make_pg.adopt(copy)
    copy.start()
    lab.wait_until(lambda: copy.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
    assert copy.value("SELECT sum(i) FROM ledger") == 500500 + 1001
    # and without the mirror it is refused
    shutil.rmtree(root(beside))
    done = wa.run("restore", "-D", copy.data + "2", check=None)
    assert done.returncode != 0 and segment in done.stderr and "offsite" in done.stderr


def test_what_only_the_mirror_has_is_refused_with_its_name(pg, make_walagent, file_repository, beside,
                                                           work_dir):
    lab.own(work_dir)
    wa = follow(mirrored(make_walagent, file_repository, beside, pg))
    backup(wa)
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS x")
    lost = pg.switch_wal()
    pg.sql("INSERT INTO t VALUES (1)")
    lsn = pg.lsn()
    last = pg.switch_wal()
    durable(wa, pg)
    lab.wait_until(lambda: [p for p in tree(beside) if p.endswith(last + ".zst") and "/wal/" in p], 30,
                   "the segments are whole")
    wa.stop()
    for path in tree(file_repository):
        if lost in path:  # its chunks, which may be there still, too
            os.unlink(os.path.join(root(file_repository), path))
    hole, = [d for d in wa.json("verify", check=3)["damage"] if d["kind"] == "hole"]
    assert "repository \"offsite\" has it" in hole["cost"] and "--repository offsite" in hole["cost"], hole
    for command in (("restore", "-D", os.path.join(work_dir, "copy"), "--to-lsn", lsn),
                    ("archive-get", lost, os.path.join(work_dir, lost))):
        done = wa.run(*command, check=None)
        assert done.returncode in (1, 3), done
        assert "Repository \"offsite\" has" in done.stderr and "--repository offsite" in done.stderr, done
        wa.run(*command, "--repository", "offsite")


def test_an_agent_serves_from_the_mirror_while_the_main_repository_is_away(pg, make_walagent, beside,
                                                                           file_repository, work_dir):
    wa = follow(mirrored(make_walagent, file_repository, beside, pg))
    segment = pg.switch_wal()
    durable(wa, pg)
    lab.wait_until(lambda: [p for p in tree(beside) if p.endswith(segment + ".zst") and "/wal/" in p], 30,
                   "the segment is whole")
    target = lab.make_dir(os.path.join(work_dir, "got"), 0o777)
    shutil.move(root(file_repository), root(file_repository) + ".away")
    wa.run("archive-get", segment, os.path.join(target, segment))
    assert filecmp.cmp(os.path.join(target, segment), os.path.join(pg.data, "pg_wal", segment), False)
    wa.run("archive-get", segment[:-2] + "F0", os.path.join(target, "absent"), check=4)
    shutil.move(root(file_repository) + ".away", root(file_repository))
    wa.run("archive-get", segment[:-2] + "F0", os.path.join(target, "absent"), check=1)
    durable(wa, pg)


def test_a_mirror_that_is_away_is_taken_out_and_put_back_while_the_agent_runs(pg, make_walagent, beside,
                                                                              file_repository):
    wa = follow(mirrored(make_walagent, file_repository, beside, pg))
    backup(wa)
    pg.sql("CREATE TABLE t (x int)")
    durable(wa, pg)
    shutil.move(root(beside), root(beside) + ".away")
    pg.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    section = wa.sections.pop("repository offsite")
    wa.write_config()
    wa.signal(signal.SIGHUP)
    durable(wa, pg)
    assert len(lab.json.loads(wa.http("/status")[1])["repositories"]) == 1
    for _ in range(3):
        pg.switch_wal()
        pg.sql("INSERT INTO t VALUES (1)")
    durable(wa, pg)
    shutil.move(root(beside) + ".away", root(beside))
    wa.sections["repository offsite"] = section
    wa.write_config()
    wa.signal(signal.SIGHUP)
    lab.wait_until(lambda: len(lab.json.loads(wa.http("/status")[1])["repositories"]) == 2, 30,
                   "the mirror is used again")
    pg.sql("INSERT INTO t VALUES (2)")
    durable(wa, pg)
    assert wa.json("mirror")["mirrors"][0]["complete"]
    wa.stop()
    compared, = wa.json("mirror", "-n")["mirrors"]
    assert compared["complete"] and compared["missing"] == 0
    assert end_of(wa, "--repository", "offsite") >= restart_lsn(pg)


def test_a_recovery_does_not_end_where_a_mirror_ends(pg, make_walagent, beside, file_repository, work_dir):
    wa = follow(mirrored(make_walagent, file_repository, beside, pg))
    first = pg.switch_wal()
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS x")
    durable(wa, pg)
    last = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    lab.wait_until(lambda: [p for p in tree(beside) if p.endswith(first + ".zst") and "/wal/" in p], 30,
                   "the segment is whole")
    wa.stop()
    data = lab.make_dir(os.path.join(work_dir, "recovering"), 0o777)
    lab.make_dir(os.path.join(data, "pg_wal"), 0o777)
    lab.write_file(os.path.join(data, "recovery.signal"), "")

    def get(name, *more):
        return wa.run("archive-get", *more, name, "pg_wal/RECOVERYXLOG", cwd=data, check=None).returncode
    shutil.move(root(file_repository), root(file_repository) + ".away")
    assert get(first) == 0
    wa.set("archive.pitr_timeout", "1s")
    assert get(last) == 254
    assert get("00000002.history") == 254
    wa.set("archive.pitr_timeout", None)
    assert get(last, "--repository", "offsite") == 0
    assert get("00000002.history", "--repository", "offsite") == 1
    shutil.move(root(file_repository) + ".away", root(file_repository))
    assert get(last) == 0
    assert get("00000002.history") == 1


# ---- joining and leaving ----

def test_a_mirror_is_added_to_an_archive_left_out_and_added_again(keeping, make_walagent,
                                                                  file_repository, offsite):
    pg = keeping
    wa = follow(make_walagent(file_repository, pg, settings={"archive.tail_interval": "100ms"}))
    backup(wa)
    write_wal(pg, 4)
    durable(wa, pg)
    both = mirrored(make_walagent, file_repository, offsite, pg)
    for verb, code in (("init", 2), ("backup", 1)):
        done = both.run(verb, check=code)
        assert "walagent mirror" in done.stderr, done.stderr
    findings = {f["what"]: f for f in both.json("check", "--timeout", "2s", check=3)["findings"]}
    assert findings["mirror"]["verdict"] == "failed" and "no mirror yet" in findings["mirror"]["detail"]
    assert not both.json("mirror", "-n", check=3)["mirrors"][0]["complete"]
    first, = both.json("mirror")["mirrors"]
    assert first["complete"] and first["copied"] == first["missing"] > 5
    write_wal(pg, 3)  # by the old configuration, in the main repository only
    durable(wa, pg)
    wa.stop()
    both.start(ready=False)
    lab.wait_until(lambda: is_ready(both), 30, "the agent streams")
    write_wal(pg, 1)
    durable(both, pg)
    both.json("mirror")
    assert both.json("mirror", "-n")["mirrors"][0]["missing"] == 0
    listed, = both.json("list")["mirrors"]
    assert listed["name"] == "offsite" and "mirror \"offsite\"" in both.run("list").stdout
    both.stop()
    assert end_of(both, "--repository", "offsite") >= restart_lsn(pg)
    assert both.json("verify", "--repository", "offsite")["damage"] == []
    if offsite["url"].startswith("file:"):
        assert_same(file_repository, offsite)


def test_a_place_that_is_taken_is_refused(pg, make_pg, make_walagent, file_repository, beside):
    other = make_pg(fresh=True)
    wa = make_walagent(beside, other)
    wa.run("init")
    both = mirrored(make_walagent, file_repository, beside, pg)
    before = tree(beside)
    assert both.run("init", check=None).returncode != 0
    assert both.run("mirror", check=None).returncode != 0
    assert both.run("archive-push", os.path.join(pg.data, "pg_wal", pg.switch_wal()),
                    check=None).returncode != 0
    assert tree(beside) == before
    both.set("repository offsite.url", file_repository["url"] + "/")
    assert "place of its own" in both.run("init", check=2).stderr


# ---- what is judged ----

def test_verify_judges_the_main_repository_and_no_mirror_in_its_place(pg, make_walagent,
                                                                      file_repository, beside):
    wa = follow(mirrored(make_walagent, file_repository, beside, pg))
    backup(wa)
    write_wal(pg, 3)
    durable(wa, pg)
    wa.stop()
    assert wa.json("verify")["damage"] == []  # and says so in the main repository
    assert not [name for name in tree(beside) if "/verified/" in name]
    assert wa.json("mirror", "-n")["mirrors"][0]["complete"]
    segment = max(name for name in tree(file_repository) if "/wal/" in name and name.endswith(".zst"))
    os.chmod(os.path.join(root(file_repository), segment), 0)
    done = wa.run("verify", check=None)
    assert done.returncode in (1, 3) and os.path.basename(segment)[:24] in done.stdout + done.stderr, done
    assert wa.json("verify", "--repository", "offsite")["damage"] == []


def test_an_incremental_backup_brings_the_mirror_what_it_builds_on(make_pg, major, make_walagent,
                                                                   file_repository, beside):
    if major < 17:
        pytest.skip("PostgreSQL %d has no incremental backups" % major)
    pg = make_pg(major, summarize_wal="on")
    both = follow(mirrored(make_walagent, file_repository, beside, pg))
    mended(both)  # its next look is hours away: it doesn't copy what follows
    alone = make_walagent(file_repository, pg)
    full = backup(alone)["label"]  # the mirror was left out
    lacking = both.json("mirror", "-n", check=3)["mirrors"][0]
    assert lacking["missing"] > 3 and "/" + full + "/" in lacking["first_missing"]
    second = backup(both, "--type", "incremental")
    assert second["parent"] == full
    assert both.json("mirror", "-n")["mirrors"][0]["complete"]
    result = both.json("verify", "--repository", "offsite")
    assert result["damage"] == [] and result["backups"] == 2


def test_an_agent_with_a_mirror_that_is_not_copied_waits_and_goes_on(keeping, make_walagent,
                                                                      file_repository, beside):
    pg = keeping
    before = follow(make_walagent(file_repository, pg))
    backup(before)
    write_wal(pg, 2)
    durable(before, pg)
    before.stop()
    wa = mirrored(make_walagent, file_repository, beside, pg)
    wa.start(ready=False)
    wa.wait_log("walagent mirror")
    told = restart_lsn(pg)
    write_wal(pg, 2)
    lsn = pg.lsn()
    done = wa.run("archive-push", os.path.join(pg.data, "pg_wal", pg.switch_wal()), check=None)
    assert done.returncode not in (0, None) and "walagent mirror" in done.stderr
    assert wa.is_running() and not is_ready(wa) and restart_lsn(pg) == told
    assert wa.json("mirror")["mirrors"][0]["complete"]
    lab.wait_until(lambda: is_ready(wa), 30, "the agent streams")
    durable(wa, pg)
    assert end_of(wa, "--repository", "offsite") >= number(lsn)


def test_an_agent_brings_its_mirror_the_little_that_a_crash_left_out(pg, make_walagent,
                                                                     file_repository, beside):
    wa = follow(mirrored(make_walagent, file_repository, beside, pg))
    backup(wa)
    pg.switch_wal()
    durable(wa, pg)
    wa.stop()
    lost = max(name for name in tree(beside) if "/backup/" in name and name.endswith("files.zst"))
    for name in (lost, lost + ".meta"):
        os.unlink(os.path.join(root(beside), name))
    assert wa.json("mirror", "-n", check=3)["mirrors"][0]["missing"] == 1
    wa.start()
    mended(wa)
    metrics = wa.http("/metrics")[1]
    assert 'walagent_mirror_missing_objects{repository="offsite"} 0' in metrics
    assert 'walagent_mirror_copied_objects_total{repository="offsite"} 1' in metrics
    wa.stop()
    assert_same(file_repository, beside)
