"""archive_command and restore_command: real servers, with and without an agent."""
import os
import shutil
import time

import pytest

import lab

SEGMENT = 16 * 1024 * 1024


def hook(walagent, name, *operands):
    return "'%s' %s -c '%s' %s" % (os.path.join(walagent.program, "walagent"), name,
                                   walagent.config_path, " ".join(operands))


def archive(pg, walagent, **settings):
    """Let the server archive by walagent."""
    pg.configure(archive_mode="on", archive_command=hook(walagent, "archive-push", "%p"), **settings)
    return pg.start()


def restore_command(walagent):
    return hook(walagent, "archive-get", "%f", "%p")


def archiving_server(make_pg, make_walagent, repository):
    """A server that archives into a fresh repository, without an agent."""
    pg = make_pg(start=False)
    walagent = make_walagent(repository, pg)
    pg.start()
    walagent.run("init")
    pg.stop()
    archive(pg, walagent)
    return pg, walagent


@pytest.fixture
def archiving(make_pg, make_walagent, file_repository):
    return archiving_server(make_pg, make_walagent, file_repository)


def switch(pg):
    """Complete the segment and wait until it is archived; its name."""
    name = pg.switch_wal()
    lab.wait_until(lambda: (pg.value("SELECT last_archived_wal FROM pg_stat_archiver") or "") >= name,
                   30, "%s is archived; the log: %s" % (name, pg.log[-2000:]))
    return name


def get(walagent, name, target, data_dir="/", check=0, **more):
    return walagent.run("archive-get", name, target, check=check, cwd=data_dir, **more)


def keys(walagent, part):
    root = walagent.sections["repository"]["url"][len("file://"):]
    found = []
    for directory, _, files in os.walk(root):
        found += [os.path.join(directory, f) for f in files if not f.endswith(".meta")]
    return [k for k in found if "/%s/" % part in k]


def segment_file(pg, name):
    return os.path.join(pg.data, "pg_wal", name)


def test_a_segment_comes_back_as_it_was_and_may_be_pushed_again(archiving, work_dir):
    pg, walagent = archiving
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    name = switch(pg)
    target = os.path.join(lab.make_dir(work_dir + "/out"), "segment")
    get(walagent, name, target)
    with open(target, "rb") as got, open(segment_file(pg, name), "rb") as was:
        assert got.read() == was.read()
    again = walagent.run("archive-push", segment_file(pg, name))
    assert again.stderr == ""
    missing = get(walagent, "0000000100000AAA00000001", target + "2", check=1)
    assert "not in the archive" in missing.stderr and not os.path.exists(target + "2")


def other_content(make_pg, name):
    """A segment of another history of the same cluster (its template's)."""
    other = make_pg()
    other.sql("CREATE TABLE elsewhere AS SELECT generate_series(1, 100) AS i")
    while other.switch_wal() < name:
        pass
    return segment_file(other, name)


def test_other_content_is_refused_and_kept(archiving, make_pg):
    pg, walagent = archiving
    name = switch(pg)
    other = other_content(make_pg, name)
    refused = walagent.run("archive-push", other, check=5)
    assert "HINT:  " in refused.stderr and "quarantine/" in refused.stderr
    assert len(keys(walagent, "quarantine")) == 1
    walagent.run("archive-push", other, check=5)
    assert len(keys(walagent, "quarantine")) == 1
    walagent.run("archive-push", segment_file(pg, name))


def test_junk_behind_a_switch_is_damage_and_not_an_unfinished_segment(archiving, work_dir):
    pg, walagent = archiving
    name = pg.switch_wal()
    switch(pg)
    with open(segment_file(pg, name), "rb") as f:
        content = bytearray(f.read())
    content[SEGMENT - 8000] = 1
    copy = os.path.join(lab.make_dir(work_dir + "/copy"), name)
    with open(copy, "wb") as f:
        f.write(content)
    lab.own(copy)
    walagent.run("archive-push", copy, check=5)  # archived before, and not with this byte


def test_what_is_no_segment_of_this_cluster_is_refused(archiving, make_pg, work_dir):
    pg, walagent = archiving
    name = switch(pg)
    stranger = make_pg(fresh=True)
    theirs = stranger.switch_wal()
    refused = walagent.run("archive-push", segment_file(stranger, theirs), check=5)
    assert stranger.system_identifier in refused.stderr and pg.system_identifier in refused.stderr
    out = lab.make_dir(work_dir + "/out")
    short = os.path.join(out, "000000010000000000000077")
    with open(segment_file(pg, name), "rb") as f:
        content = f.read()
    with open(short, "wb") as f:
        f.write(content[:5000000])
    lab.own(short)
    assert "5000000 bytes" in walagent.run("archive-push", short, check=5).stderr
    with open(short, "wb") as f:
        f.write(content)
    assert "not segment" in walagent.run("archive-push", short, check=5).stderr
    with open(short, "wb") as f:
        f.write(b"\0" * SEGMENT)
    walagent.run("archive-push", short, check=5)
    walagent.run("archive-push", os.path.join(out, "nonsense"), check=2)
    assert not [k for k in keys(walagent, "wal") if "77.zst" in k]


def test_a_damaged_segment_is_archived_with_a_warning_or_refused(make_pg, make_walagent,
                                                                file_repository):
    pg = make_pg()
    walagent = make_walagent(file_repository, pg, settings={"archive.on_damage": "stop"})
    walagent.run("init")
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 50000) AS i")
    name = pg.switch_wal()
    path = segment_file(pg, name)
    with open(path, "r+b") as f:
        f.seek(1000000)
        byte = f.read(1)
        f.seek(1000000)
        f.write(bytes([byte[0] ^ 4]))
    refused = walagent.run("archive-push", path, check=3)
    assert "0/" in refused.stderr and "on_damage" in refused.stderr
    assert keys(walagent, "wal") == []
    walagent.set("archive.on_damage", "archive")
    accepted = walagent.run("archive-push", path)
    assert "WARNING" in accepted.stderr and "0/" in accepted.stderr
    with open(keys(walagent, "wal")[0] + ".meta", encoding="utf-8") as f:
        assert '"checked":false' in f.read()
    assert len(keys(walagent, "event")) >= 1
    assert "its records can't be followed" in walagent.run("list").stdout
    [hole] = walagent.json("list")["holes"]
    assert hole["archived"] and int(hole["begin_lsn"].split("/")[1], 16) % SEGMENT < 1000000
    walagent.run("list", "--require", "no-hole", check=3)


def test_an_unfinished_segment_becomes_a_chunk_and_never_a_whole_one(archiving, work_dir):
    pg, walagent = archiving
    switch(pg)
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    name = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    copy = os.path.join(lab.make_dir(work_dir + "/copy"), name)
    shutil.copy(segment_file(pg, name), copy)
    lab.own(copy)
    pushed = walagent.run("archive-push", copy)
    assert "unfinished" in pushed.stderr
    assert [k for k in keys(walagent, "wal") if name in k] == []
    assert len([k for k in keys(walagent, "tail") if name in k]) == 1
    walagent.run("archive-push", copy)
    os.rename(copy, copy + ".partial")
    assert walagent.run("archive-push", copy + ".partial").stderr == ""
    assert len([k for k in keys(walagent, "tail") if name in k]) == 1
    pg.sql("CREATE TABLE u AS SELECT generate_series(1, 1000) AS i")
    shutil.copy(segment_file(pg, name), copy)
    lab.own(copy)
    walagent.run("archive-push", copy)
    assert len([k for k in keys(walagent, "tail") if name in k]) == 2
    # the whole one is no conflict with its own beginning
    assert switch(pg) == name
    walagent.run("archive-push", copy)
    assert keys(walagent, "quarantine") == []


def test_histories_backups_and_partials_of_a_promotion_are_archived(archiving, make_pg, work_dir):
    pg, walagent = archiving
    backup = make_pg.adopt
    replica = pg.standby(work_dir + "/replica")
    backup(replica)
    switch(pg)
    assert len(keys(walagent, "other")) >= 1  # the backup history file of pg_basebackup
    replica.start().caught_up_with(pg)
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 100) AS i")
    replica.caught_up_with(pg).promote()
    replica.sql("INSERT INTO t VALUES (101)")
    name = switch(replica)
    assert name.startswith("00000002")
    assert len(keys(walagent, "timeline")) == 1
    wal = [k for k in keys(walagent, "wal") if name in k]
    assert len(wal) == 1
    branch = wal[0].split("/wal/")[1].split("/")[0]
    assert branch in keys(walagent, "timeline")[0]
    failed = replica.sql("SELECT failed_count, last_failed_wal FROM pg_stat_archiver")
    assert failed[0][0] == 0, (failed, replica.log[-2000:])
    history = os.path.join(work_dir, "history")
    lab.make_dir(history)
    get(walagent, "00000002.history", history + "/h")
    with open(history + "/h", "rb") as a, open(segment_file(replica, "00000002.history"), "rb") as b:
        assert a.read() == b.read()


def test_two_servers_that_promote_to_one_timeline_archive_side_by_side(archiving, make_pg, work_dir):
    pg, walagent = archiving
    replicas = [pg.standby(work_dir + "/r%d" % i) for i in range(2)]
    for r in replicas:
        make_pg.adopt(r)
        r.start().caught_up_with(pg)
    pg.stop()
    for i, r in enumerate(replicas):
        r.promote()
        r.sql("CREATE TABLE t%d AS SELECT 1" % i)
        switch(r)
        assert r.value("SELECT failed_count FROM pg_stat_archiver") == 0, r.log[-3000:]
    assert len({k.split("/wal/")[1].split("/")[0] for k in keys(walagent, "wal")
                if "/00000002-" in k}) == 2
    assert keys(walagent, "quarantine") == []


def standby_from_archive(pg, walagent, make_pg, directory, **settings):
    replica = pg.standby(directory, restore_command=restore_command(walagent), **settings)
    make_pg.adopt(replica)
    lab.write_file(replica.data + "/postgresql.auto.conf", "")  # no primary_conninfo
    return replica


def test_a_standby_lives_from_the_archive_alone(archiving, make_pg, work_dir):
    pg, walagent = archiving
    replica = standby_from_archive(pg, walagent, make_pg, work_dir + "/replica",
                                   wal_retrieve_retry_interval="500ms")
    pg.sql("CREATE TABLE t (i int)")
    for i in range(6):
        pg.sql("INSERT INTO t SELECT generate_series(1, 1000)")
        switch(pg)
    replica.start()
    lab.wait_until(lambda: replica.value("SELECT count(*) FROM t") == 6000, 60,
                   "everything is replayed; " + replica.log[-2000:])
    pg.sql("INSERT INTO t VALUES (0)")
    switch(pg)
    lab.wait_until(lambda: replica.value("SELECT count(*) FROM t") == 6001, 60, "the next segment")
    assert "Sanitizer" not in replica.log
    # what was fetched ahead goes when recovery does
    replica.promote()
    lab.wait_until(lambda: not [f for f in os.listdir(replica.data + "/pgsql_tmp_walagent")
                                if f.startswith("pgsql_tmp_0")], 30, "fetched files are gone")


def test_exit_codes_tell_a_missing_file_from_a_failed_look_up(archiving, work_dir):
    pg, walagent = archiving
    name = switch(pg)
    data = lab.make_dir(work_dir + "/data")
    lab.make_dir(data + "/pg_wal")
    xlog = "pg_wal/RECOVERYXLOG"
    absent = "0000000100000AAA00000001"
    # point-in-time recovery
    lab.write_file(data + "/recovery.signal", "")
    get(walagent, name, xlog, data)
    get(walagent, absent, xlog, data, check=1)
    get(walagent, "00000002.history", "pg_wal/RECOVERYHISTORY", data, check=1)
    url = walagent.sections["repository"]["url"]
    walagent.set("archive.pitr_timeout", "1s")
    walagent.set("repository.url", url + "/missing")
    get(walagent, absent, xlog, data, check=254)
    get(walagent, absent, "pg_wal/elsewhere", data, check=(2, 4))
    walagent.set("repository.url", "s3://bucket/x")
    walagent.set("repository.s3_endpoint", "http://127.0.0.1:1")
    walagent.set("repository.s3_access_key_id", "x")
    walagent.set("repository.s3_secret_access_key", "y")
    get(walagent, absent, xlog, data, check=254)
    raw = get(walagent, absent, "pg_wal/elsewhere", data, check=4, timeout=200)
    assert "HINT" in raw.stderr or "127.0.0.1" in raw.stderr
    # a broken configuration, a wrong option, a main program that is gone
    text = lab.read_file(walagent.config_path)
    lab.write_file(walagent.config_path, "[nonsense\n")
    get(walagent, absent, xlog, data, check=254)
    walagent.run("archive-get", "--nonsense", absent, xlog, check=254, cwd=data)
    get(walagent, absent, "pg_wal/elsewhere", data, check=2)
    lab.write_file(walagent.config_path, text)
    # a restore_command with its %f and %p exchanged, or without one of them
    get(walagent, xlog, absent, data, check=254)
    walagent.run("archive-get", absent, check=254, cwd=data)
    walagent.run("archive-get", check=254, cwd=data)
    alone = lab.make_dir(work_dir + "/alone")
    shutil.copy(os.path.join(walagent.program, "walagent"), alone)
    for mode, code in (("recovery", 254), ("standby", 4)):
        if mode == "standby":
            lab.write_file(data + "/standby.signal", "")
        lab.run([alone + "/walagent", "archive-get", absent, xlog], check=code, cwd=data,
                env=walagent.environment())
    lab.run([alone + "/walagent", "archive-push", xlog], check=1, cwd=data,
            env=walagent.environment())
    # a standby: 4 in time, remembered; what is in the archive ends it
    walagent.set("archive.get_timeout", "2s")
    began = time.monotonic()
    first = get(walagent, absent, xlog, data, check=4)
    assert "127.0.0.1" in first.stderr or "did not answer" in first.stderr
    assert time.monotonic() - began < 20
    again = get(walagent, absent, xlog, data, check=4)
    assert "a moment ago" in again.stderr
    lab.write_file(data + "/walagent.promoting", "%d\n" % ((time.time() + 6) * 1000))
    get(walagent, absent, xlog, data, check=254)
    os.unlink(data + "/walagent.promoting")
    os.unlink(data + "/pgsql_tmp_walagent/pgsql_tmp_failed")
    walagent.set("repository.url", url)
    walagent.set("archive.get_timeout", None)
    get(walagent, name, xlog, data)
    get(walagent, absent, xlog, data, check=1)


def test_a_corrupt_object_stops_recovery(archiving, work_dir):
    pg, walagent = archiving
    name = switch(pg)
    data = lab.make_dir(work_dir + "/data")
    lab.make_dir(data + "/pg_wal")
    lab.write_file(data + "/recovery.signal", "")
    path = [k for k in keys(walagent, "wal") if name in k][0]
    with open(path, "r+b") as f:
        f.seek(100)
        byte = f.read(1)
        f.seek(100)
        f.write(bytes([byte[0] ^ 1]))
    failed = get(walagent, name, "pg_wal/RECOVERYXLOG", data, check=254)
    assert name in failed.stderr and not os.path.exists(data + "/pg_wal/RECOVERYXLOG")
    get(walagent, name, "pg_wal/raw", data, check=3)


def test_a_promotion_drains_the_unfinished_segment(archiving, make_pg, work_dir):
    pg, walagent = archiving
    replica = standby_from_archive(pg, walagent, make_pg, work_dir + "/replica",
                                   wal_retrieve_retry_interval="500ms")
    pg.sql("CREATE TABLE t (i int)")
    switch(pg)
    pg.sql("INSERT INTO t SELECT generate_series(1, 5000)")
    name = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    copy = os.path.join(lab.make_dir(work_dir + "/copy"), name)
    pg.stop("immediate")
    shutil.copy(segment_file(pg, name), copy)
    lab.own(copy)
    walagent.run("archive-push", copy)
    replica.start()
    lab.wait_until(lambda: replica.is_ready() and replica.value("SELECT count(*) FROM t") == 5000,
                   60, "the tail is replayed; " + replica.log[-2000:])
    replica.promote()
    assert replica.value("SELECT count(*) FROM t") == 5000


def test_a_shorter_tail_never_replaces_longer_local_wal(archiving, work_dir):
    pg, walagent = archiving
    switch(pg)
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 3000) AS i")
    name = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    data = lab.make_dir(work_dir + "/data")
    lab.make_dir(data + "/pg_wal")
    lab.write_file(data + "/standby.signal", "")
    local = os.path.join(data, "pg_wal", name)
    xlog = "pg_wal/RECOVERYXLOG"
    shutil.copy(segment_file(pg, name), local)
    lab.own(local)
    walagent.run("archive-push", local)
    get(walagent, name, xlog, data, check=1)  # as long as the local one
    pg.sql("INSERT INTO t SELECT generate_series(1, 3000)")
    shutil.copy(segment_file(pg, name), local)
    lab.own(local)
    get(walagent, name, xlog, data, check=1)  # shorter
    walagent.run("archive-push", local)
    pg.sql("INSERT INTO t SELECT generate_series(1, 3000)")
    longer = os.path.join(lab.make_dir(work_dir + "/longer"), name)
    shutil.copy(segment_file(pg, name), longer)
    lab.own(longer)
    walagent.run("archive-push", longer)
    get(walagent, name, xlog, data)  # longer
    assert os.path.getsize(os.path.join(data, xlog)) == SEGMENT
    served = lab.read_file(data + "/pgsql_tmp_walagent/pgsql_tmp_served")
    assert served.startswith(name)
    os.unlink(local)  # a recycled or missing file counts as empty
    get(walagent, name, xlog, data)
    for chunk in keys(walagent, "tail"):  # the newest chunk is lost: less than before is no answer
        if chunk.endswith(sorted(os.path.basename(k) for k in keys(walagent, "tail"))[-1]):
            os.unlink(chunk)
    walagent.set("archive.get_timeout", "5s")
    less = get(walagent, name, xlog, data, check=4)
    assert "was served up to" in less.stderr


def test_a_stray_timeline_is_served_to_people_only(archiving, make_pg, work_dir):
    pg, walagent = archiving
    replica = pg.standby(work_dir + "/replica")
    make_pg.adopt(replica)
    replica.start().caught_up_with(pg).promote()
    replica.sql("CREATE TABLE stray AS SELECT 1")
    name = switch(replica)
    data = lab.make_dir(work_dir + "/data")
    lab.make_dir(data + "/pg_wal")
    for signal in ("recovery.signal", "standby.signal"):
        lab.write_file(os.path.join(data, signal), "")
        get(walagent, "00000002.history", "pg_wal/RECOVERYHISTORY", data, check=1)
        get(walagent, name, "pg_wal/RECOVERYXLOG", data, check=1)
    get(walagent, "00000002.history", "pg_wal/h", data)
    get(walagent, name, "pg_wal/s", data)


def test_rewind_reads_the_old_timeline_from_the_archive(archiving, make_pg, work_dir):
    pg, walagent = archiving
    pg.stop()
    pg.configure(wal_log_hints="on")
    pg.start()
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 100) AS i")
    replica = pg.standby(work_dir + "/replica")
    make_pg.adopt(replica)
    replica.start().caught_up_with(pg).promote()
    pg.sql("INSERT INTO t SELECT generate_series(1, 100)")  # lost by the failover
    for _ in range(3):
        last = switch(pg)
    replica.sql("INSERT INTO t VALUES (0)")
    replica.sql("CHECKPOINT")
    pg.stop()
    for f in os.listdir(pg.data + "/pg_wal"):  # what recycling would have done
        if len(f) == 24 and f <= last:
            os.unlink(segment_file(pg, f))
    pg.configure(restore_command=restore_command(walagent))
    pg.tool("pg_rewind", "-D", pg.data, "--source-server", replica.conninfo(), "-c", "-R")
    pg.configure(port=pg.port)
    pg.start()
    assert pg.caught_up_with(replica).value("SELECT count(*) FROM t") == 101


def test_the_agent_serves_the_hooks(make_pg, make_walagent, file_repository, work_dir):
    pg = make_pg(start=False)
    walagent = make_walagent(file_repository, pg)
    pg.start()
    walagent.run("init")
    walagent.start()
    walagent.expect(lab.COMES_AND_GOES)
    pg.stop()
    archive(pg, walagent)
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    name = switch(pg)
    # the answer comes from the agent: the full program is not needed
    alone = lab.make_dir(work_dir + "/alone")
    shutil.copy(os.path.join(walagent.program, "walagent"), alone)
    data = lab.make_dir(work_dir + "/data")
    lab.make_dir(data + "/pg_wal")
    lab.write_file(data + "/standby.signal", "")
    env = walagent.environment()
    lab.run([alone + "/walagent", "archive-push", segment_file(pg, name)], env=env)
    lab.run([alone + "/walagent", "archive-get", name, "pg_wal/RECOVERYXLOG"], cwd=data, env=env)
    with open(data + "/pg_wal/RECOVERYXLOG", "rb") as a, open(segment_file(pg, name), "rb") as b:
        assert a.read() == b.read()
    lab.run([alone + "/walagent", "archive-get", "0000000100000AAA00000001",
             "pg_wal/RECOVERYXLOG"], cwd=data, env=env, check=1)
    other = other_content(make_pg, name)
    walagent.expect("archive-push")
    refused = lab.run([alone + "/walagent", "archive-push", other], env=env, check=5)
    assert "HINT" in refused.stderr


def test_segments_are_fetched_ahead_and_served_by_a_rename(archiving, work_dir):
    pg, walagent = archiving
    names = [switch(pg) for _ in range(5)]
    data = lab.make_dir(work_dir + "/data")
    lab.make_dir(data + "/pg_wal")
    lab.write_file(data + "/recovery.signal", "")
    ahead = data + "/pgsql_tmp_walagent/pgsql_tmp_" + names[1]
    lab.make_dir(data + "/pgsql_tmp_walagent", 0o700)
    lab.write_file(ahead, "a leftover of an earlier recovery", 0o600)
    get(walagent, names[1], "pg_wal/RECOVERYXLOG", data)
    assert os.path.getsize(data + "/pg_wal/RECOVERYXLOG") == SEGMENT
    get(walagent, names[0], "pg_wal/RECOVERYXLOG", data)
    lab.wait_until(lambda: os.path.exists(ahead) and os.path.getsize(ahead) == SEGMENT, 30,
                   "the next segment is fetched ahead")
    inode = os.stat(ahead).st_ino
    get(walagent, names[1], "pg_wal/RECOVERYXLOG", data)
    assert os.stat(data + "/pg_wal/RECOVERYXLOG").st_ino == inode
    with open(data + "/pg_wal/RECOVERYXLOG", "rb") as a, \
            open(segment_file(pg, names[1]), "rb") as b:
        assert a.read() == b.read()
    get(walagent, names[1], data + "/pg_wal/raw", data)
    os.unlink(data + "/recovery.signal")
    directory = data + "/pgsql_tmp_walagent"
    lab.wait_until(lambda: not [f for f in os.listdir(directory)
                                if f == "pgsql_tmp_socket" or f.startswith("pgsql_tmp_0")], 30,
                   "the prefetcher has ended and taken its files along")
