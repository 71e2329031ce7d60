"""The streamer while something is wrong: the store is away, a disk is full, the slot was
invalidated, the archive knows more than the new primary."""
import glob
import os
import select
import shutil
import socket
import subprocess
import threading
import time

import pytest

import lab
from test_backup import backup, durable, follow
from test_stream import (MIB, Load, keeping, lsn, make_streamer,  # noqa: F401 (fixtures)
                         promote_over, restart_lsn, stall, write_wal)


@pytest.fixture
def stallable(work_dir):
    return "fault+file://" + lab.make_dir(os.path.join(work_dir, "repo"))


def in_spool(agent):
    return sorted(n for n in os.listdir(agent.spool) if n not in ("lock", "writer"))


# ---- acknowledge = spool ----

def test_what_the_spool_acknowledged_survives_the_agent_and_reaches_the_store(keeping, make_streamer,
                                                                              stallable):
    agent = make_streamer(keeping, url=stallable, acknowledge_spool=1, tail_interval_ms=200).start()
    agent.wait(lambda st: st["state"] == "streaming")
    agent.wait_durable(keeping)
    keeping.sql("CREATE TABLE t (x int)")
    keeping.sql("ALTER SYSTEM SET synchronous_standby_names = 'walagent'")
    keeping.reload()
    agent.wait(lambda st: st["synchronous"], 15, "the server waits for us")
    go_on = stall(agent)
    before = agent.status()["puts"]
    keeping.sql("INSERT INTO t VALUES (0)")
    agent.wait(lambda st: st["puts"] > before + 1, 15, "the store refuses")
    done = []
    thread = threading.Thread(target=lambda: [done.append(keeping.sql("INSERT INTO t VALUES (%s)", x))
                                              for x in range(1, 50)])
    thread.start()
    thread.join(120)
    assert len(done) == 49, "commits wait for the store though the spool acknowledges"
    write_wal(keeping, 2.5)
    acknowledged = lab.wait_until(
        lambda: (lambda at: at if at > agent.status()["durable"] + 2 * MIB else None)(
            restart_lsn(keeping)), 15, "the slot moves without the store")
    for _ in range(2):
        agent.kill9()
        keeping.sql("SET synchronous_commit = local; INSERT INTO t VALUES (100)")
        agent.start().wait(lambda st: st["state"] == "streaming")
        agent.wait(lambda st: restart_lsn(keeping) > acknowledged, 15, "the slot moves again")
        acknowledged = max(acknowledged, restart_lsn(keeping))
        assert agent.status()["durable"] < acknowledged
    keeping.stop("immediate")
    shutil.copytree(os.path.join(keeping.data, "pg_wal"), os.path.join(agent.dir, "wal"))
    go_on()
    agent.wait(lambda st: st["durable"] >= acknowledged, 30, "the spool drains without a server")
    agent.kill9()
    keeping.start()
    agent.assert_identical(keeping, agent.lineage()[0][0], acknowledged,
                           os.path.join(agent.dir, "wal"))


def test_with_acknowledge_spool_nothing_bypasses_it(keeping, make_streamer, stallable):
    agent = make_streamer(keeping, url=stallable, acknowledge_spool=1).start()
    agent.wait(lambda st: st["state"] == "streaming")
    agent.wait_durable(keeping)
    agent.stop()
    write_wal(keeping, 4)
    go_on = stall(agent)
    agent.start()
    target = lsn(keeping.lsn())
    agent.wait(lambda st: restart_lsn(keeping) >= target, 20, "the spool acknowledges the past")
    assert len(in_spool(agent)) >= 4
    go_on()
    end = agent.wait_durable(keeping)
    agent.stop()
    agent.assert_identical(keeping, agent.lineage()[0][0], end)


# ---- the archive is ahead of the new primary ----

@pytest.mark.parametrize("mib", [0.05, 2.3])
@pytest.mark.parametrize("slow_store", [False, True])
def test_wal_behind_a_fork_stays_and_the_new_timeline_goes_on(make_pg, make_streamer, work_dir,
                                                              stallable, mib, slow_store):
    old = make_pg(wal_segsize=1, wal_keep_size="1GB")
    new = old.standby(os.path.join(work_dir, "new"), wal_keep_size="1GB")
    make_pg.adopt(new)
    new.start()
    agent = make_streamer(old, new, url=stallable, tail_interval_ms=200).start()
    agent.wait(lambda st: st["state"] == "streaming")
    write_wal(old, 1.4)
    agent.wait_durable(old)
    lab.wait_until(lambda: new.value("SELECT count(*) FROM pg_replication_slots") == 1, 15, "its slot")
    new.caught_up_with(old)
    new.stop()
    go_on = stall(agent) if slow_store else lambda: None
    write_wal(old, mib)  # the agent has it, the standby never will
    surplus = lsn(old.lsn())
    agent.wait(lambda st: st["received"] >= surplus, 15, "received")
    if not slow_store:
        agent.wait_durable(old)
    old.kill9()
    new.start()
    new.promote()
    new.sql("CREATE TABLE afterwards AS SELECT 1 AS x")
    write_wal(new, 1.4)
    go_on()
    agent.wait(lambda st: st["branch"].startswith("00000002-"), 30, "the new timeline is streamed")
    end = agent.wait_durable(new, 30)
    agent.stop()
    parent, child = agent.lineage()
    fork = lsn(lab.read_file(new.data + "/pg_wal/00000002.history").split("\t")[1])
    assert child[1] == fork < surplus
    agent.assert_identical(new, child[0], end)
    agent.assert_identical(new, parent[0], surplus, os.path.join(old.data, "pg_wal"))
    assert agent.status()["hole_end"] == 0
    assert "level=1 " not in agent.said() and "conflict" not in agent.said()


# ---- a new primary without the old timeline's WAL ----

def make_promoted(make_pg, make_streamer, work_dir, removed):
    """The agent has the beginning; the rest was written while it was away, and of that the new
    primary has lost what `removed` says. Returns (agent, new primary, fork)."""
    old = make_pg(wal_segsize=1, wal_keep_size="1GB")
    new = old.standby(os.path.join(work_dir, "new"), wal_keep_size="0", max_wal_size="2MB",
                      min_wal_size="2MB")
    make_pg.adopt(new)
    new.start()
    agent = make_streamer(old, new, tail_interval_ms=200).start()
    agent.wait(lambda st: st["state"] == "streaming")
    write_wal(old, 1.4)
    agent.wait_durable(old)
    agent.stop()
    write_wal(old, 3.3)
    new.caught_up_with(old)
    promote_over(old, new)
    for slot, in new.sql("SELECT slot_name FROM pg_replication_slots"):
        new.sql("SELECT pg_drop_replication_slot(%s)", slot)
    fork = lsn(lab.read_file(new.data + "/pg_wal/00000002.history").split("\t")[1])
    assert fork % MIB != 0 and fork // MIB > agent.status()["durable"] // MIB + 1
    if removed == "with the fork":
        for _ in range(4):
            write_wal(new, 2)
            new.sql("CHECKPOINT")
    else:
        new.sql("CHECKPOINT")
        for path in glob.glob(new.data + "/pg_wal/00000001????????????????"):
            os.unlink(path)
    with_fork = "%s/pg_wal/00000002%08X%08X" % (new.data, fork >> 32, (fork & 0xFFFFFFFF) // MIB)
    assert os.path.exists(with_fork) == (removed != "with the fork")
    return agent, new, fork


@pytest.mark.parametrize("removed", ["before the fork", "with the fork"])
def test_a_new_primary_without_the_parents_wal_is_archived_behind_a_declared_hole(
        make_pg, make_streamer, work_dir, removed):
    agent, new, fork = make_promoted(make_pg, make_streamer, work_dir, removed)
    durable = agent.status()["durable"]
    agent.start()
    agent.wait(lambda st: st["branch"].startswith("00000002-"), 20, "the child is streamed")
    agent.wait_durable(new)
    new.sql("ALTER SYSTEM SET wal_keep_size = '1GB'")
    new.reload()
    write_wal(new, 1.4)
    end = agent.wait_durable(new)
    st = agent.status()
    assert st["hole_begin"] == durable
    if removed == "with the fork":
        assert st["hole_end"] > fork
    else:
        assert st["hole_end"] == fork - fork % MIB
    assert "Take a base backup" in agent.said()
    agent.wait(lambda st: [e for e in glob.glob(agent.cluster_dir() + "/event/*/*.json")
                           if "is not in the archive" in lab.read_file(e)], 10, "the event")
    parent, child = agent.lineage()
    assert child[0].startswith("00000002-") and child[1] == fork
    for again in (agent.kill9, agent.stop):
        again()
        agent.start().wait(lambda st: st["state"] == "streaming")
        new.sql("CREATE TABLE t_%s AS SELECT 1 AS x" % again.__name__)
        end = agent.wait_durable(new)
    agent.stop()
    assert agent.lineage() == [parent, child]
    agent.assert_identical(new, child[0], end)


# ---- a server that accepts and drops ----

class Dropper:
    """Stands between the agent and a server; while `drops`, a stream ends when it has begun."""

    def __init__(self, server):
        self.upstream = "%s/.s.PGSQL.%s" % (server.dir, server.port)
        self.drops, self.dropped = True, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.conninfo = "host=127.0.0.1 port=%d user=postgres sslmode=disable" % \
            self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.pass_on, args=(client,), daemon=True).start()

    def pass_on(self, client):
        began = False
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self.upstream)
            while True:
                for one in select.select([client, server], [], [])[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    drop = one is server and began and self.drops
                    if drop:  # no more than CopyBothResponse
                        data = data[:1 + int.from_bytes(data[1:5], "big")]
                    (server if one is client else client).sendall(data)
                    if drop:
                        self.dropped.append(time.monotonic())
                        return
                    began = began or (one is client and b"START_REPLICATION" in data)


def test_a_server_that_accepts_and_drops_is_asked_less_and_less_often(pg, make_streamer):
    agent = make_streamer(pg)
    between = Dropper(pg)
    agent.conninfo = between.conninfo
    agent.start()
    lab.wait_until(lambda: len(between.dropped) >= 6, 60, "six streams were dropped")
    gaps = [b - a for a, b in zip(between.dropped, between.dropped[1:])]
    for n, gap in enumerate(gaps[:5]):
        assert gap >= 0.1 * 2 ** n, gaps
    between.drops = False
    agent.wait_durable(pg, 30)
    agent.stop()
    between.listener.close()


# ---- disks and slots ----

@pytest.mark.long  # other hosts are looked at every ten seconds
def test_every_host_keeps_the_slot_up_to_the_durable_position(make_pg, make_streamer, work_dir,
                                                              stallable):
    primary = make_pg(wal_segsize=1, wal_keep_size="1GB", max_wal_size="1GB")
    standby = primary.standby(os.path.join(work_dir, "standby"), max_wal_size="1GB",
                              wal_keep_size="0", max_slot_wal_keep_size="1MB")
    make_pg.adopt(standby)
    standby.start()
    agent = make_streamer(primary, standby, url=stallable, tail_interval_ms=200).start()
    agent.wait(lambda st: st["state"] == "streaming")

    def there():
        # a position that was durable before the slot was looked at is never behind the slot's
        found = standby.sql("SELECT restart_lsn::text, wal_status FROM pg_replication_slots "
                            "WHERE slot_name = 'walagent' AND restart_lsn IS NOT NULL")
        at = lsn(found[0][0]) if found and found[0][1] != "lost" else None
        assert at is None or at <= agent.wait(lambda st: st["durable"] > 0)["durable"] or \
            at <= agent.wait(lambda st: st["durable"] >= at)["durable"]
        return at
    first = lab.wait_until(there, 15, "the slot on the standby")
    write_wal(primary, 2)
    target = agent.wait_durable(primary)
    standby.caught_up_with(primary)
    second = lab.wait_until(lambda: (lambda at: at if at and at >= target else None)(there()), 25,
                            "the slot on the standby follows")
    assert first < second
    go_on = stall(agent)
    write_wal(primary, 3)  # replayed on the standby, not durable: its slot must stay
    standby.caught_up_with(primary)
    durable_now = agent.status()["durable"]
    again = agent.status()["puts"]
    agent.wait(lambda st: st["puts"] > again, 15, "the store refuses")
    standby.sql("SELECT pg_drop_replication_slot('walagent')")
    standby.sql("CHECKPOINT")
    made = lab.wait_until(there, 25, "the slot is made again")
    assert made <= max(durable_now, agent.status()["durable"])
    go_on()
    end = agent.wait_durable(primary)
    lab.wait_until(lambda: (there() or 0) >= end, 25, "and follows again")
    agent.stop()


def test_check_names_hosts_without_the_slot(make_pg, make_walagent, file_repository, work_dir):
    primary = make_pg(wal_segsize=1)
    standby = primary.standby(os.path.join(work_dir, "standby"))
    make_pg.adopt(standby)
    standby.start()
    wa = make_walagent(file_repository, primary)
    wa.run("init")
    wa.set("cluster.conninfo", "host=%s,%s port=%s,%s user=postgres" % (
        primary.dir, standby.dir, primary.port, standby.port))

    def hosts():
        found = wa.json("check", "--timeout", "5s", check=None)["findings"]
        return [(f["verdict"], f["detail"]) for f in found if f["what"] == "host"]
    one, two = hosts()
    assert one[0] == "ok" and two[0] == "warning"
    assert standby.dir in two[1] and "has no replication slot" in two[1]
    wa.start()
    lab.wait_until(lambda: standby.value("SELECT count(*) FROM pg_replication_slots") == 1, 20, "slot")
    assert [h[0] for h in hosts()] == ["ok", "ok"]
    wa.stop()
    standby.stop()
    one, two = hosts()
    assert (one[0], two[0]) == ("ok", "warning") and standby.dir in two[1]


def test_a_full_disk_below_the_spool_stops_reading_until_there_is_room(keeping, make_streamer,
                                                                       stallable, work_dir):
    spool = lab.make_dir(os.path.join(work_dir, "small"), 0o700)
    if os.geteuid() != 0 or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m,mode=700,uid=%d" % os.stat(spool).st_uid,
             "tmpfs", spool], stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("can't mount a small file system here")
    try:
        agent = make_streamer(keeping, url=stallable, tail_interval_ms=200)
        agent.spool = spool
        agent.start().wait(lambda st: st["state"] == "streaming")
        agent.wait_durable(keeping)
        go_on = stall(agent)
        write_wal(keeping, 8)
        agent.wait(lambda st: "No space left" in agent.said(), 20, "the disk is full")
        stuck = restart_lsn(keeping)
        agent.wait(lambda st: st["reconnects"] >= 2, 20, "it keeps trying")
        assert agent.status()["durable"] >= restart_lsn(keeping) == stuck
        go_on()
        end = agent.wait_durable(keeping, 30)
        assert agent.status()["spool_bytes"] <= 3 * MIB
        agent.stop()
        agent.assert_identical(keeping, agent.lineage()[0][0], end)
    finally:
        agent.close()
        subprocess.run(["umount", spool], check=True)


def test_a_slot_that_was_invalidated_is_made_anew_and_the_hole_declared(make_pg, make_streamer):
    server = make_pg(wal_segsize=1, wal_keep_size="0", max_wal_size="2MB", min_wal_size="2MB",
                     max_slot_wal_keep_size="2MB")
    agent = make_streamer(server).start()
    agent.wait(lambda st: st["state"] == "streaming")
    agent.wait_durable(server)
    known = agent.stop()["durable"]

    def state():
        return server.value("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'walagent'")
    for _ in range(5):
        write_wal(server, 2)
        server.sql("CHECKPOINT")
    assert state() == "lost"
    agent.start()
    st = agent.wait(lambda st: st["hole_end"] > 0, 15, "the hole")
    assert st["hole_begin"] == known and st["hole_end"] > known
    assert "was invalidated" in agent.said() and "Take a base backup" in agent.said()
    assert state() != "lost"
    agent.wait_durable(server)
    write_wal(server, 1)
    agent.wait_durable(server)
    agent.stop()


# ---- alarms ----

def told(agent):
    return [int(line.split("more than ")[1].split(" ")[0]) for line in lab.read_file(agent.err).split("\n")
            if "waits to be archived" in line and "more than" in line]


@pytest.mark.parametrize("by_slot", [False, True])
def test_each_quarter_of_the_smaller_limit_is_told_once(make_pg, make_streamer, stallable, by_slot):
    """spool_max, or what max_slot_wal_keep_size leaves: the smaller one counts."""
    server = make_pg(wal_segsize=1, wal_keep_size="0", max_wal_size="1GB",
                     max_slot_wal_keep_size="24MB" if by_slot else "-1")
    agent = make_streamer(server, url=stallable, tail_interval_ms=200,
                          spool_max=(1000 if by_slot else 24) * MIB)
    agent.start().wait(lambda st: st["state"] == "streaming")
    agent.wait_durable(server)
    limit = agent.wait(lambda st: st["lag_limit"] > 0)["lag_limit"]
    if not by_slot:
        assert limit == 24 * MIB
    assert told(agent) == []
    go_on = stall(agent)
    due = []
    for level in (25, 50, 75):
        due.append(level)
        while (seen := told(agent)) != due:
            assert seen == due[:-1]
            here = lsn(server.lsn())
            write_wal(server, 1)
            agent.wait(lambda st: st["received"] > here, 15, "received")
            assert agent.status()["lag_bytes"] < 30 * MIB, "no alarm at %d %%" % level
    go_on()
    agent.wait_durable(server, 30)
    agent.wait(lambda st: "less than 25 %" in agent.said(), 15, "that it is over is said")
    assert told(agent) == [25, 50, 75]
    agent.stop()


# ---- the store is away ----

@pytest.fixture
def lasting_ceph(work_dir):
    """Its own, because it is stopped; with a disk, because it is started again."""
    server = lab.Ceph(os.path.join(work_dir, "ceph"), env={"CEPH_STORE": "bluestore"})
    try:
        yield server.start()
    finally:
        server.wipe()


@pytest.mark.long  # starts a Ceph of its own three times
def test_a_store_that_was_away_gets_everything_in_order(make_pg, make_walagent, lasting_ceph):
    ceph, bucket = lasting_ceph, lasting_ceph.make_bucket()
    pg = make_pg(wal_segsize=1, wal_keep_size="1GB")
    wa = follow(make_walagent(ceph.settings(bucket, "archive"), pg, settings={"archive.tail_interval": "200ms"}))
    backup(wa)
    first = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    load = Load(pg)
    try:
        for n in range(2):
            ceph.stop()
            here = lsn(pg.lsn())
            lab.wait_until(lambda: lsn(pg.lsn()) > here + 3 * MIB, 30, "WAL is written meanwhile")
            lab.wait_until(lambda: wa.log.count("can't be written") == n + 1, 30, "the agent says it")
            ceph.start()
            lab.wait_until(lambda: wa.log.count("can be written again") == n + 1, 60, "it goes on")
            durable(wa, pg)
    finally:
        load.stop()
    pg.switch_wal()
    last = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    pg.sql("CREATE TABLE afterwards AS SELECT 1 AS x")
    durable(wa, pg)
    keys = {os.path.basename(k)[:24]: k for k in ceph.client.keys(bucket) if "/wal/" in k}
    names = [n for n in sorted(os.listdir(pg.data + "/pg_wal")) if first <= n < last and len(n) == 24]
    assert len(names) >= 6 and set(names) <= set(keys), sorted(set(names) - set(keys))
    for name in names:
        ours = subprocess.run(["zstd", "-dcq"], input=ceph.client.get(bucket, keys[name]),
                              check=True, stdout=subprocess.PIPE).stdout
        with open(os.path.join(pg.data, "pg_wal", name), "rb") as f:
            assert ours == f.read(), name
    assert wa.json("list")["hole_count"] == 0 and wa.json("verify")["damage"] == []
