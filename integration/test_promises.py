"""What a commit may rely on: remote_write on the spool, on on the repository; and a server whose disk lied
to it, so that it writes other WAL where it was acknowledged before."""
import os
import shutil
import threading

import pytest

import lab
from test_backup import durable, follow
from test_stream import MIB, keeping, lsn, make_streamer, restart_lsn, stall, write_wal  # noqa: F401
from test_stream_faults import stallable  # noqa: F401


def synchronous(pg, agent):
    pg.sql("CREATE TABLE t (x int)")
    pg.sql("ALTER SYSTEM SET synchronous_standby_names = 'walagent'")
    pg.reload()
    agent.wait(lambda st: st["synchronous"], 15, "the server waits for us")


class Commit(threading.Thread):
    """INSERT x in the background; `returned` when it did."""

    def __init__(self, pg, x, mode):
        super().__init__(daemon=True)
        self.pg, self.x, self.mode, self.returned = pg, x, mode, False
        self.start()

    def run(self):
        try:
            self.pg.sql("SET synchronous_commit = %s; INSERT INTO t VALUES (%d)" % (self.mode, self.x))
            self.returned = True
        except Exception:
            pass  # the server is gone


def test_remote_write_waits_for_the_spool_and_on_for_the_repository(keeping, make_streamer, stallable):
    pg = keeping
    agent = make_streamer(pg, url=stallable, tail_interval_ms=200).start()
    agent.wait(lambda st: st["state"] == "streaming")
    synchronous(pg, agent)
    pg.sql("INSERT INTO t VALUES (0)")
    agent.wait_durable(pg)
    known = agent.status()["durable"]
    go_on = stall(agent)
    waiting = Commit(pg, 1, "on")
    lab.wait_until(lambda: pg.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), 15,
                   "a commit waits")
    for x in range(2, 12):
        written = Commit(pg, x, "remote_write")
        written.join(60)
        assert written.returned, "remote_write waits for the store"
        end = lsn(pg.value("SELECT write_lsn::text FROM pg_stat_replication"))
    assert not waiting.returned and agent.status()["durable"] < end
    assert restart_lsn(pg) <= agent.status()["durable"]
    # the server's disk is lost and the agent was killed: what remote_write promised is in the spool
    agent.kill9()
    pg.kill9()
    waiting.join(60)
    assert not waiting.returned, "a commit returned that only the spool had"
    shutil.copytree(os.path.join(pg.data, "pg_wal"), os.path.join(agent.dir, "wal"))
    go_on()
    agent.start()
    agent.wait(lambda st: st["durable"] >= end > known, 20, "the spool drains without a server")
    agent.kill9()
    pg.start()  # to be asked for its segment size
    agent.assert_identical(pg, agent.lineage()[0][0], end, os.path.join(agent.dir, "wal"))


def test_a_commit_that_waits_for_the_repository_returns_when_it_is_back(keeping, make_streamer,
                                                                        stallable):
    pg = keeping
    agent = make_streamer(pg, url=stallable, tail_interval_ms=200).start()
    agent.wait(lambda st: st["state"] == "streaming")
    synchronous(pg, agent)
    go_on = stall(agent)
    waiting = [Commit(pg, x, mode) for x, mode in enumerate(("on", "on", "remote_write"))]
    waiting[2].join(60)
    assert [w.returned for w in waiting] == [False, False, True]
    go_on()
    for w in waiting:
        w.join(60)
        assert w.returned
    agent.assert_identical(pg, agent.lineage()[0][0], lsn(pg.lsn()))


def segments(pg):
    return sorted(n for n in os.listdir(os.path.join(pg.data, "pg_wal")) if len(n) == 24)


def copy_wal(pg, directory):
    """The files as they are; from here on the disk lies."""
    lab.make_dir(directory)
    for name in segments(pg):
        shutil.copy(os.path.join(pg.data, "pg_wal", name), directory)


def test_a_server_whose_last_wal_was_lost_after_it_was_acknowledged(make_pg, make_streamer, work_dir):
    """Its disk said that it had fsynced, and had not. It comes back shorter, and writes other bytes
    where durable ones are: an alarm; both are kept; nothing of them is acknowledged."""
    pg = make_pg(wal_segsize=1, autovacuum="off", bgwriter_lru_maxpages="0", checkpoint_timeout="1h")
    agent = make_streamer(pg, tail_interval_ms=100).start()
    agent.wait(lambda st: st["state"] == "streaming")
    pg.sql("CREATE TABLE t (x int)")
    pg.sql("CHECKPOINT")
    pg.sql("INSERT INTO t SELECT generate_series(1, 100)")
    agent.wait_durable(pg)
    before, truth = os.path.join(work_dir, "before"), os.path.join(work_dir, "truth")
    copy_wal(pg, before)
    pg.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    target = agent.wait_durable(pg)
    lab.wait_until(lambda: restart_lsn(pg) >= target, 15, "it is acknowledged")
    pg.kill9()
    copy_wal(pg, truth)
    for name in os.listdir(before):
        shutil.copyfile(os.path.join(before, name), os.path.join(pg.data, "pg_wal", name))
    pg.start()
    assert pg.value("SELECT count(*) FROM t") == 100 and lsn(pg.lsn()) < target
    agent.wait(lambda st: "behind" in agent.said(), 20, "it is noticed while the server is shorter")
    assert agent.status()["durable"] == target
    branch = agent.lineage()[0][0]
    kept = segments(pg)
    pg.sql("CREATE TABLE other AS SELECT generate_series(1, 5) AS y")
    write_wal(pg, 2.5)
    agent.wait(lambda st: "shows other WAL" in agent.said(), 30, "the other bytes are noticed")
    assert "acknowledged" in agent.said()
    for _ in range(2):
        pg.sql("CHECKPOINT")  # would recycle what no slot needs
    st = agent.status()
    assert st["durable"] == target and restart_lsn(pg) <= target
    assert st["conflicts"] > 0
    agent.assert_identical(pg, branch, target, truth)  # the archive has what it had
    assert set(kept) <= set(segments(pg))  # and the server its own
    events = [e for _, _, files in os.walk(os.path.join(agent.cluster_dir(), "event")) for e in files]
    assert [e for e in events if e.endswith(".json")], "no event is kept"


# ---- seals ----

@pytest.fixture
def awaited(make_pg, make_walagent, file_repository, work_dir):
    """A server whose commits wait for its agent, the agent, and what its status says of the stream."""
    lab.own(work_dir)
    pg = make_pg(wal_segsize=1, autovacuum="off")
    wa = follow(make_walagent(file_repository, pg, settings={"archive.tail_interval": "200ms"}))
    wa.expect("ERROR", "WARNING")
    pg.sql("CREATE TABLE t (x int)")
    pg.sql("ALTER SYSTEM SET synchronous_standby_names = 'walagent'")
    pg.reload()

    def stream():
        return wa.json("status", check=(0, 1, 3)).get("stream") or {}
    lab.wait_until(lambda: stream().get("synchronous"), 30, "the server waits for the agent")
    pg.sql("INSERT INTO t VALUES (0)")
    return pg, wa, stream


def test_a_seal_ends_what_a_commit_may_rely_on(awaited):
    """What a failover manager does before it promotes: the LSN that is told is the last that counts."""
    pg, wa, stream = awaited
    sealed = wa.json("lineage", "seal")["sealed"]
    assert sealed["epoch"] == 1 and lsn(sealed["lsn"]) <= lsn(pg.lsn())
    waiting = Commit(pg, 1, "on")
    lab.wait_until(lambda: stream().get("state") == "fenced", 30, "the agent is fenced; " + wa.log[-2000:])
    assert wa.json("lineage", "seal")["sealed"] == sealed  # once more is the same
    assert not waiting.returned and restart_lsn(pg) <= lsn(sealed["lsn"])
    assert lsn(stream()["durable_lsn"]) <= lsn(sealed["lsn"])
    wa.stop()
    wa.start()  # a seal ends an epoch, no timeline
    waiting.join(30)
    assert waiting.returned
    assert wa.json("lineage")["epoch"] == 2
    durable(wa, pg)
    assert wa.json("verify")["damage"] == []


def test_a_seal_that_is_held_outlives_restarts_until_it_is_unsealed(awaited):
    """A supervisor starts the agent again, which the one who sealed didn't mean."""
    pg, wa, stream = awaited
    sealed = wa.json("lineage", "seal", "--hold")["sealed"]
    waiting = Commit(pg, 1, "on")
    for restart in range(3):
        lab.wait_until(lambda: stream().get("state") == "fenced", 30, "it waits; " + wa.log[-2000:])
        lab.wait_until(lambda: "lineage seal --hold" in (stream().get("last_error") or ""), 30, "and says why")
        assert not waiting.returned and restart_lsn(pg) <= lsn(sealed["lsn"])
        if restart < 2:
            wa.kill9() if restart == 0 else wa.stop()
            wa.start()
    told = wa.json("lineage")
    assert sealed["held"] and told["held"] and told["epoch_sealed"] and told["epoch"] == 1
    assert "unseal" in wa.run("lineage").stdout
    checked = wa.json("check", check=(3,))
    assert [f for f in checked["findings"] if f["what"] == "lineage" and f["verdict"] == "failed"]
    wa.run("lineage", "unseal")  # without another start
    waiting.join(60)
    assert waiting.returned, wa.log[-3000:]
    told = wa.json("lineage")
    assert not told["held"] and not told["epoch_sealed"] and told["epoch"] == 2
    durable(wa, pg)
    assert wa.json("verify")["damage"] == []
    assert wa.run("lineage", "unseal", check=None).returncode == 1


def test_a_hold_whose_seal_never_came_is_told_and_unseal_makes_it_good(awaited):
    """Killed in between: the lineage holds the epoch, and its writer runs."""
    pg, wa, stream = awaited
    killed = wa.run("lineage", "seal", "--hold", check=None, env={"WALAGENT_CRASH_POINT": "seal-before-put"})
    assert killed.returncode != 0
    pg.sql("INSERT INTO t VALUES (1)")  # archived: it returned
    told = wa.json("lineage")
    assert told["held"] and not told["epoch_sealed"] and told["epoch"] == 1
    assert "not sealed" in wa.run("lineage").stdout
    said = [f for f in wa.json("check", check=(3,))["findings"] if f["what"] == "lineage"]
    assert "was not sealed" in str(said), said
    wa.run("lineage", "unseal")
    told = wa.json("lineage")
    assert not told["held"] and told["epoch"] == 2
    waiting = Commit(pg, 2, "on")
    waiting.join(60)
    assert waiting.returned, wa.log[-3000:]
    sealed = wa.json("lineage", "seal")["sealed"]
    assert sealed["epoch"] == 2 and not sealed["held"]
    after = Commit(pg, 3, "on")
    lab.wait_until(lambda: stream().get("state") == "fenced", 30,
                   "the writer meets the seal of the epoch that it writes")
    assert not after.returned
    assert wa.json("verify")["damage"] == []
