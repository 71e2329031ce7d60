"""Lineage: several servers promote to one timeline and archive side by side; which branch is
accepted decides what is restored and served. Copies are started, and their rows looked at."""
import glob
import json
import os
import re

import pytest

import lab
from test_backup import durable, follow
from test_hooks import archive, get, hook, switch


@pytest.fixture
def cluster(make_pg, make_walagent, file_repository, work_dir):
    """A primary that archives by archive_command, a backup taken by an agent, three rows."""
    lab.own(work_dir)
    pg = make_pg(start=False, autovacuum="off")
    wa = make_walagent(file_repository, pg, settings={"archive.tail_interval": "200ms"})
    archive(pg, wa)
    follow(wa)
    wa.run("backup")
    pg.sql("CREATE TABLE t AS SELECT 'base' AS who FROM generate_series(1, 3)")
    return pg, wa


@pytest.fixture
def copy(cluster, work_dir, make_pg):
    """copy(*options): restores and starts; what is in t."""
    made = []

    def make(*options, keep=False):
        server = lab.Postgres("%s/copy%d" % (work_dir, len(made)))
        made.append(server)
        cluster[1].run("restore", "-D", server.data, *options)
        make_pg.adopt(server)
        server.start()
        lab.wait_until(lambda: not server.value("SELECT pg_is_in_recovery()"), 30,
                       "recovery ends: " + server.log[-2000:])
        rows = [r[0] for r in server.sql("SELECT DISTINCT who FROM t ORDER BY who")]
        if keep:
            return rows, server
        server.stop("immediate")
        return rows
    return make


def promote_two(pg, wa, make_pg, work_dir):
    """Two standbys, promoted at one place, each with a row of its own, both archiving."""
    replicas = [pg.standby(work_dir + "/r%d" % i) for i in range(2)]
    for r in replicas:
        make_pg.adopt(r)
        r.start().caught_up_with(pg)
    durable(wa, pg)
    wa.stop()
    pg.stop()
    for i, r in enumerate(replicas):
        r.promote()
        r.sql("INSERT INTO t VALUES ('r%d')" % i)
        switch(r)
        assert r.value("SELECT failed_count FROM pg_stat_archiver") == 0, r.log[-3000:]
    return replicas


def branches(wa, timeline=2):
    return [b for b in wa.json("lineage")["branches"] if b["timeline"] == timeline]


def number(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def test_two_promotions_archive_side_by_side_and_one_is_adopted(cluster, copy, make_pg, work_dir):
    pg, wa = cluster
    replicas = promote_two(pg, wa, make_pg, work_dir)
    fork = lab.read_file(replicas[0].data + "/pg_wal/00000002.history").split("\t")[1]
    both = branches(wa)
    assert len(both) == 2
    for b in both:
        assert b["standing"] == "not accepted" and not b["head"] and b["parent_timeline"] == 1
        assert b["begin_lsn"] == fork and number(b["end_lsn"]) > number(fork)
    assert copy("--to-latest") == ["base"]
    names = [b["branch"] for b in both]
    of = {}
    for name in names:
        rows = copy("--timeline", name)
        assert rows in (["base", "r0"], ["base", "r1"])
        of[rows[1]] = name
    assert sorted(of) == ["r0", "r1"]

    before = wa.json("lineage")
    after = wa.json("lineage", "adopt", of["r0"])
    assert after["number"] == before["number"] + 1 and after["epoch"] == before["epoch"] + 1
    standing = {b["branch"]: (b["standing"], b["head"]) for b in after["branches"]}
    assert standing[of["r0"]] == ("accepted", True) and standing[of["r1"]] == ("not accepted", False)
    assert {s for n, s in standing.items() if n.startswith("00000001")} == {("accepted", False)}
    assert copy("--to-latest") == ["base", "r0"]
    assert copy("--timeline", of["r1"]) == ["base", "r1"]
    assert "already" in wa.run("lineage", "adopt", of["r0"]).stdout
    assert wa.json("lineage") == after

    assert "rejected" in wa.run("lineage", "reject", of["r1"]).stdout
    assert [b["standing"] for b in branches(wa) if b["branch"] == of["r1"]] == ["rejected"]
    refused = wa.run("lineage", "reject", of["r0"], check=2)
    assert "HINT:" in refused.stderr
    wa.run("lineage", "adopt", "00000007-0123abcd", check=1)
    wa.run("lineage", "adopt", "seven", check=2)
    wa.run("lineage", "adopt", check=2)
    wa.run("lineage", "show", of["r0"], check=2)
    assert copy("--to-latest") == ["base", "r0"]

    wa.run("lineage", "adopt", of["r1"])
    standing = {b["branch"]: b["standing"] for b in branches(wa)}
    assert standing == {of["r1"]: "accepted", of["r0"]: "not accepted"}
    assert copy("--to-latest") == ["base", "r1"]
    moments = wa.json("log")["moments"]
    forks = [m for m in moments if m["kind"] == "fork"]
    assert [(m["lsn"], m["text"]) for m in forks] == [(fork, of["r1"])]


def test_check_tells_that_nobody_adopts_a_promotion(cluster, make_pg, work_dir):
    pg, wa = cluster

    def finding():
        done = wa.run("check", "--json", check=(0, 3))
        return [f for f in json.loads(done.stdout)["findings"] if f["what"] == "lineage"][0]

    assert finding()["verdict"] == "ok"
    replica = pg.standby(work_dir + "/replica")
    make_pg.adopt(replica)
    replica.start().caught_up_with(pg)
    durable(wa, pg)
    wa.stop()
    pg.stop()
    replica.promote()
    switch(replica)
    wa.set("cluster.conninfo", replica.conninfo(dbname=None))
    wa.set("cluster.data_dir", replica.data)
    (name,) = [b["branch"] for b in branches(wa)]
    found = finding()
    assert found["verdict"] == "warning" and "timeline 2" in found["detail"]
    assert "walagent run" in found["hint"]
    assert "walagent lineage adopt " + name in found["hint"]
    assert "walagent lineage adopt " + name in wa.run("list").stdout
    wa.run("lineage", "adopt", name)
    assert finding()["verdict"] == "ok"
    assert "lineage adopt" not in wa.run("list").stdout


def test_archive_get_serves_by_ancestry(cluster, make_pg, work_dir):
    pg, wa = cluster
    replicas = promote_two(pg, wa, make_pg, work_dir)
    fork = number(lab.read_file(replicas[0].data + "/pg_wal/00000002.history").split("\t")[1])
    pg.start()  # the old primary goes on for a while: WAL that nobody accepted
    pg.sql("INSERT INTO t VALUES ('zombie')")
    switch(pg)
    stray = switch(pg)
    data = lab.make_dir(work_dir + "/data")
    lab.make_dir(data + "/pg_wal")
    lab.write_file(data + "/standby.signal", "")
    history, xlog = "pg_wal/RECOVERYHISTORY", "pg_wal/RECOVERYXLOG"
    segment = "%08X%08X" % (fork >> 32, (fork & 0xFFFFFFFF) >> 24)
    get(wa, "00000002.history", history, data, check=1)
    get(wa, "00000002" + segment, xlog, data, check=1)
    for b in branches(wa):
        wa.run("lineage", "adopt", b["branch"])
        get(wa, "00000002.history", history, data)
        get(wa, "00000002" + segment, xlog, data)
        with open(os.path.join(data, xlog), "rb") as f:
            got = f.read()
        matches = [r for r in replicas
                   if open(r.data + "/pg_wal/00000002" + segment, "rb").read() == got]
        assert len(matches) == 1
        replicas.remove(matches[0])
        get(wa, stray, xlog, data, check=1)  # timeline 1 ended at the fork
    assert replicas == []
    get(wa, stray, "pg_wal/by-hand", data)  # to people and pg_rewind everything is served


def test_a_test_copy_that_promotes_with_archiving_on_changes_nothing(cluster, copy, make_pg,
                                                                     work_dir):
    pg, wa = cluster
    switch(pg)
    durable(wa, pg)
    rows, stray = copy("--to-latest", "--keep-archiving", keep=True)
    assert rows == ["base"] and stray.timeline() == 2
    stray.sql("INSERT INTO t VALUES ('stray')")
    switch(stray)
    switch(stray)
    assert stray.value("SELECT failed_count FROM pg_stat_archiver") == 0, stray.log[-2000:]
    assert [b["standing"] for b in branches(wa)] == ["not accepted"]
    pg.sql("INSERT INTO t VALUES ('later')")
    name = switch(pg)
    durable(wa, pg)
    assert copy("--to-latest") == ["base", "later"]
    data = lab.make_dir(work_dir + "/data")
    lab.make_dir(data + "/pg_wal")
    for signal in ("standby.signal", "recovery.signal"):
        lab.write_file(os.path.join(data, signal), "")
        get(wa, "00000002.history", "pg_wal/RECOVERYHISTORY", data, check=1)
        get(wa, name, "pg_wal/RECOVERYXLOG", data)
        os.unlink(os.path.join(data, "pg_wal/RECOVERYXLOG"))
    standby = pg.standby(work_dir + "/standby",
                         restore_command=hook(wa, "archive-get", "%f", "%p"))
    make_pg.adopt(standby)
    standby.start().caught_up_with(pg)
    assert wa.is_running()

    # The real promotion comes to timeline 2 as well, and the agent follows that one.
    durable(wa, pg)
    wa.stop()
    pg.stop()
    standby.promote()
    standby.sql("INSERT INTO t VALUES ('real')")
    wa.set("cluster.conninfo", standby.conninfo(dbname=None))
    wa.set("cluster.data_dir", standby.data)
    wa.start(ready=False)
    lab.wait_until(lambda: "accepted" in [b["standing"] for b in branches(wa)], 60,
                   "the agent adopts: " + wa.log[-3000:])
    durable(wa, standby)
    assert sorted(b["standing"] for b in branches(wa)) == ["accepted", "not accepted"]
    assert copy("--to-latest") == ["base", "later", "real"]


def test_the_agent_of_the_branch_that_was_the_head_is_fenced(cluster, make_pg, work_dir):
    pg, wa = cluster
    replica = pg.standby(work_dir + "/replica")
    make_pg.adopt(replica)
    replica.start().caught_up_with(pg)
    durable(wa, pg)
    replica.promote()  # while the primary lives on, and its agent streams
    replica.sql("INSERT INTO t VALUES ('new')")
    switch(replica)
    wa.expect("fenced", "sealed", "writes the archive", "timeline", "not accepted", "head")
    (branch,) = branches(wa)
    wa.run("lineage", "adopt", branch["branch"])
    pg.sql("INSERT INTO t VALUES ('zombie')")

    def refuses():
        stream = lab.json.loads(wa.http("/status")[1]).get("stream") or {}
        return stream.get("state") not in ("streaming", None) and \
            number(stream["durable_lsn"]) < number(pg.lsn())
    lab.wait_until(refuses, 30, "nothing more is acknowledged: " + wa.log[-3000:])


def test_a_new_system_identifier_is_another_incarnation(cluster, make_pg, work_dir):
    pg, wa = cluster
    switch(pg)
    durable(wa, pg)
    wa.stop()
    pg.stop()
    new = make_pg(fresh=True, start=False, autovacuum="off")
    archive(new, wa)
    assert new.system_identifier != pg.system_identifier
    wa.set("cluster.conninfo", new.conninfo(dbname=None))
    wa.set("cluster.data_dir", new.data)
    name = new.switch_wal()
    lab.wait_until(lambda: new.value("SELECT failed_count FROM pg_stat_archiver") > 0, 30,
                   "archiving is refused")
    refused = wa.run("init", check=(1, 2, 5))
    assert pg.system_identifier in refused.stderr and new.system_identifier in refused.stderr
    assert "--accept-new-cluster" in refused.stderr
    accepted = wa.json("init", "--accept-new-cluster")
    assert accepted["incarnation"] == 2
    lab.wait_until(lambda: (new.value("SELECT last_archived_wal FROM pg_stat_archiver") or "") >= name,
                   90, "archiving goes on: " + new.log[-2000:])
    assert wa.json("list")["backups"] == []
    assert [b["timeline"] for b in wa.json("lineage")["branches"]] == [1]
    root = wa.sections["repository"]["url"][len("file://"):]
    assert glob.glob("%s/main/%s/backup/*/backup.json" % (root, pg.system_identifier)), \
        "what the old cluster left stays"
    assert re.search(r"\d", wa.run("log").stdout)


@pytest.mark.parametrize("gone", [False, True])
def test_agent_and_hook_name_a_timeline_that_was_there_before_them_alike(
        make_pg, make_walagent, file_repository, work_dir, gone):
    """A cluster promoted before walagent saw it; the segment with the fork may be recycled."""
    old = make_pg(wal_segsize=1)
    pg = old.standby(work_dir + "/new", wal_keep_size="0" if gone else "1GB", max_wal_size="2MB",
                     min_wal_size="2MB")
    make_pg.adopt(pg)
    pg.start().caught_up_with(old)
    old.stop()
    pg.promote()
    fork = number(lab.read_file(pg.data + "/pg_wal/00000002.history").split("\t")[1])
    pg.sql("CREATE TABLE t AS SELECT 1 AS x")
    for _ in range(4 if gone else 0):
        pg.sql("INSERT INTO t SELECT generate_series(1, 30000)")
        pg.sql("CHECKPOINT")
    with_fork = "%s/pg_wal/00000002%08X%08X" % (pg.data, fork >> 32, (fork & 0xFFFFFFFF) >> 20)
    assert os.path.exists(with_fork) != gone
    wa = make_walagent(file_repository, pg, settings={"archive.tail_interval": "200ms"})
    wa.run("init")
    pg.stop()
    archive(pg, wa)
    switch(pg)
    follow(wa)
    for x in range(3):
        pg.sql("INSERT INTO t VALUES (%s)", x)
        switch(pg)
    durable(wa, pg)
    root = glob.glob(file_repository["url"][len("file://"):] + "/main/[0-9]*")[0]
    names = {os.path.basename(p) for kind in ("timeline", "wal", "tail")
             for p in glob.glob("%s/%s/00000002-*" % (root, kind))}
    assert len(names) == 1, names
    assert [(b["branch"], b["head"]) for b in branches(wa)] == [(names.pop(), True)]
    assert pg.value("SELECT failed_count FROM pg_stat_archiver") == 0
    wa.run("backup")
    wa.run("verify", "--wal")


def test_a_seal_that_fences_nobody_is_no_success(make_pg, make_walagent, file_repository):
    """A failover manager looks at the exit code. What archive_command archives can't be fenced."""
    pg = make_pg(wal_segsize=1)
    wa = make_walagent(file_repository, pg)
    wa.run("init")
    sealed = wa.run("lineage", "seal", check=None)
    assert sealed.returncode == 1 and "nobody was fenced" in sealed.stderr and not sealed.stdout
    sealed = wa.run("lineage", "seal", "--json", check=None)
    assert sealed.returncode == 1 and '"sealed"' not in sealed.stdout
