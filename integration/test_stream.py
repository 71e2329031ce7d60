"""The streamer against real servers: nothing acknowledged is lost, nothing is archived that the
server's own pg_wal doesn't have.

The oracles are PostgreSQL (pg_wal, the slot's restart_lsn, synchronous commits) and zstd -d.
"""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

import lab

MIB = 1024 * 1024
WAYSIDE = ["stream-received", "spool-written", "spool-synced", "chunk-before-put", "chunk-after-put",
           "segment-before-put", "segment-after-put", "spool-before-remove", "before-acknowledge",
           "after-acknowledge"]
SWITCHING = ["history-before-put", "seal-before-put", "lineage-before-put", "lineage-after-put"]


def lsn(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


class Streamer:
    """wal-tool stream: one agent's streamer."""

    count = 0

    def __init__(self, work_dir, url, *servers, **keys):
        Streamer.count += 1
        self.dir = lab.make_dir(os.path.join(work_dir, "s%d" % Streamer.count))
        self.tool = os.path.join(work_dir, "wal-tool")
        if not os.path.exists(self.tool):
            shutil.copy(os.path.join(lab.BUILD, "tests", "wal-tool"), self.tool)
        self.url, self.keys = url, keys
        self.root = url.split("file://")[1]
        self.conninfo = "host=%s port=%s user=postgres" % (
            ",".join(s.dir for s in servers), ",".join(str(s.port) for s in servers))
        self.first = servers[0]
        self.flag = os.path.join(self.dir, "fault")
        self.spool = os.path.join(self.dir, "spool")
        self.process = None
        self.runs = 0

    def command(self, *argv, **more):
        return lab.run([self.tool] + [str(a) for a in argv], **more)

    def init(self):
        self.command("init", self.first.conninfo(dbname=None), self.url)
        return self

    def start(self, crash=None):
        self.runs += 1
        self.out = os.path.join(self.dir, "out%d" % self.runs)
        self.err = os.path.join(self.dir, "err%d" % self.runs)
        env = dict(lab.PLAIN_ENVIRONMENT, WALAGENT_TEST_FAULT=self.flag)
        if crash:
            env["WALAGENT_CRASH_POINT"] = crash
        argv = lab.as_user([self.tool, "stream", self.conninfo, self.url, self.spool] +
                           ["%s=%s" % item for item in self.keys.items()])
        with open(self.out, "w") as out, open(self.err, "w") as err:
            self.process = subprocess.Popen(argv, env=env, stdout=out, stderr=err)
        return self

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.said()
        return self.status()

    def kill9(self):
        self.process.kill()
        self.process.wait(60)

    def wait_killed(self):
        """By the crash point that it was started with."""
        lab.wait_until(lambda: self.process.poll() is not None, 60, "it comes to the crash point")
        assert self.process.returncode == -signal.SIGKILL, self.said()

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)

    def status(self):
        lines = [l for l in lab.read_file(self.out).split("\n")[:-1] if l]
        return json.loads(lines[-1]) if lines else {"state": None, "durable": 0}

    def wait(self, predicate, timeout=15, what="status"):
        def holds():
            assert self.process.poll() is None, "the streamer ended: " + self.said()
            st = self.status()
            return st if st["state"] is not None and predicate(st) else None
        try:
            return lab.wait_until(holds, timeout, what)
        except AssertionError as e:
            raise AssertionError("%s\n%s\n%s" % (e, self.status(), self.said()))

    def wait_durable(self, server, timeout=15):
        target = lsn(server.lsn())
        self.wait(lambda st: st["durable"] >= target, timeout, "durable reaches %x" % target)
        return target

    def said(self):
        return "".join(lab.read_file(p) for p in sorted(glob.glob(self.dir + "/err*")))[-4000:]

    # what is in the archive

    def lineage(self):
        lines = self.command("lineage", self.url).stdout.split("\n")
        return [(b, int(begin)) for b, begin in (l.split() for l in lines[1:] if l)]

    def cluster_dir(self):
        return [p for p in glob.glob(os.path.join(self.root, "main", "[0-9]*")) if os.path.isdir(p)][0]

    def segments(self, branch):
        names = glob.glob(os.path.join(self.cluster_dir(), "wal", branch, "*", "*.zst"))
        return {os.path.basename(n)[:24]: n for n in names}

    def tail(self, branch, name):
        """(bytes, valid end) of the unfinished segment; (b"", 0) when it has no chunk."""
        path = os.path.join(self.dir, "tail")
        done = self.command("tail", self.url, branch, name, path, check=None)
        if done.returncode != 0:
            assert "not found" in done.stderr, done.stderr
            return b"", 0
        with open(path, "rb") as f:
            return f.read(), int(re.search(r"end=(\d+)", done.stdout).group(1))

    def assert_identical(self, server, branch, upto, wal_dir=None, since=0):
        """Everything of the branch from its first archived segment (or the one that holds `since`)
        to upto is there, without a hole, and is what the server has. Returns the end of what the
        archive has."""
        size = int(server.value("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'"))
        wal_dir = wal_dir or os.path.join(server.data, "pg_wal")
        tli = branch[:8]

        def name_of(segno):
            per = (1 << 32) // size
            return "%s%08X%08X" % (tli, segno // per, segno % per)

        whole = self.segments(branch)
        chunked = os.listdir(os.path.join(self.cluster_dir(), "tail", branch))
        def segno_of(name):
            return int(name[8:16], 16) * ((1 << 32) // size) + int(name[16:], 16)
        segno = max(min(segno_of(n) for n in list(whole) + chunked), since // size)
        while True:
            name = name_of(segno)
            with open(os.path.join(wal_dir, name), "rb") as f:
                theirs = f.read()
            if name in whole:
                ours = subprocess.run(["zstd", "-dcq", whole[name]], check=True,
                                      stdout=subprocess.PIPE).stdout
                assert ours == theirs, "segment %s differs" % name
                end = (segno + 1) * size
            else:
                ours, end = self.tail(branch, name)
                end = max(end, segno * size)
                valid = end - segno * size
                assert ours[:valid] == theirs[:valid], "tail of %s differs" % name
            if end < (segno + 1) * size or end >= upto:
                assert end >= upto, "the archive ends at %x, before %x" % (end, upto)
                return end
            segno += 1


@pytest.fixture
def make_streamer(work_dir):
    all_of_them = []

    def make(*servers, url=None, init=True, **keys):
        s = Streamer(work_dir, url or "file://" + lab.make_dir(os.path.join(work_dir, "repo")),
                     *servers, **keys)
        all_of_them.append(s)
        return s.init() if init else s

    yield make
    for s in all_of_them:
        s.close()


class Load:
    """pgbench in the background: `rate` commits of some 10 KiB of WAL a second."""

    def __init__(self, server, seconds=600, rate=250):
        server.sql("CREATE TABLE IF NOT EXISTS load (t text)")
        script = lab.write_file(os.path.join(server.dir, "load.sql"),
                                "INSERT INTO load SELECT string_agg(md5(random()::text), '') FROM "
                                "generate_series(1, 300) g GROUP BY g / 50;\n")
        self.process = subprocess.Popen(lab.as_user(
            [os.path.join(server.bin, "pgbench"), "-h", server.dir, "-p", str(server.port), "-U",
             "postgres", "-n", "-T", str(seconds), "-c", "2", "-R", str(rate), "-f", script, "postgres"]),
            env=lab.PLAIN_ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def write_wal(server, mib):
    """That much WAL that doesn't compress to nothing."""
    server.sql("CREATE TABLE IF NOT EXISTS filler (t text)")
    server.sql("INSERT INTO filler SELECT string_agg(md5(random()::text), '') FROM "
               "generate_series(1, %s) g GROUP BY g / 200", int(mib * MIB / 34))


@pytest.fixture
def keeping(make_pg, major):
    """A server that keeps its WAL, so that it can be compared."""
    return make_pg(major=major, wal_segsize=1, wal_keep_size="2GB", synchronous_commit="on")


def restart_lsn(server):
    return lsn(server.value("SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = 'walagent'"))


@pytest.mark.parametrize("point", WAYSIDE)
def test_kill_at_a_crash_point_loses_nothing_acknowledged(keeping, make_streamer, point):
    agent = make_streamer(keeping, tail_interval_ms=200)
    agent.start().wait(lambda st: st["state"] == "streaming")
    load = Load(keeping)
    agent.stop()
    branch = agent.lineage()[0][0]
    for n in (1, 4):
        agent.start(crash="%s:%d" % (point, n))
        agent.wait_killed()
        agent.assert_identical(keeping, branch, restart_lsn(keeping))
    agent.start().wait(lambda st: st["state"] == "streaming")
    load.stop()
    end = agent.wait_durable(keeping)
    agent.stop()
    agent.assert_identical(keeping, branch, end)


def test_acknowledged_is_in_the_archive_even_without_the_spool(keeping, make_streamer):
    agent = make_streamer(keeping, tail_interval_ms=200).start()
    agent.wait(lambda st: st["state"] == "streaming")
    load, told = Load(keeping), restart_lsn(keeping)  # a new slot's begins where nobody told it to
    for _ in range(3):
        agent.wait(lambda st: restart_lsn(keeping) > told, 15, "the slot moves")
        agent.kill9()
        shutil.rmtree(agent.spool)
        branch, told = agent.lineage()[0][0], restart_lsn(keeping)
        agent.assert_identical(keeping, branch, told)
        agent.start()
        agent.wait(lambda st: st["state"] == "streaming")
    load.stop()
    end = agent.wait_durable(keeping)
    agent.stop()
    agent.assert_identical(keeping, branch, end)


def test_server_restart_under_load(keeping, make_streamer):
    agent = make_streamer(keeping).start()
    agent.wait(lambda st: st["state"] == "streaming")
    for mode in ("fast", "immediate"):
        load, here = Load(keeping), lsn(keeping.lsn())
        agent.wait(lambda st: st["received"] > here + MIB // 8, 15, "the load is received")
        keeping.stop(mode).start()
        load.stop()
    keeping.kill9().start()
    keeping.sql("CREATE TABLE afterwards AS SELECT 1 AS x")
    end = agent.wait_durable(keeping)
    agent.stop()
    agent.assert_identical(keeping, agent.lineage()[0][0], end)


@pytest.mark.parametrize("mib", [1, 16, pytest.param(64, marks=pytest.mark.long)])
def test_segment_sizes_and_catching_up(make_pg, make_streamer, mib):
    server = make_pg(wal_segsize=mib, wal_keep_size="2GB", max_wal_size="2GB")
    agent = make_streamer(server).start()
    agent.wait(lambda st: st["state"] == "streaming")
    agent.stop()
    write_wal(server, 3.5 * mib if mib > 1 else 20)
    agent.start().wait_durable(server, 30 + 2 * mib)
    write_wal(server, 1.5 * mib)
    end = agent.wait_durable(server, 30 + 2 * mib)
    agent.stop()
    agent.assert_identical(server, agent.lineage()[0][0], end)


def test_an_idle_database_makes_no_requests(pg, make_streamer):
    agent = make_streamer(pg).start()
    agent.wait(lambda st: st["state"] == "streaming")
    pg.sql("CREATE TABLE t AS SELECT 1 AS x")
    pg.sql("CHECKPOINT")
    agent.wait_durable(pg)

    def idle():
        """Status before and after three seconds in which the server wrote nothing, and nothing was on
        its way. Of itself it writes for the last time up to 15 s after anything else did."""
        time.sleep(1.5)
        before = agent.status()
        time.sleep(3)
        after = agent.status()
        same = before["durable"] == after["durable"] == before["received"] == after["received"]
        return (before, after) if same else None
    before, after = lab.wait_until(idle, 30, "the database is idle")
    for kind in ("puts", "gets", "heads", "lists"):
        assert before[kind] == after[kind], kind


def stall(agent):
    """The store refuses every put that begins from now on; returns what ends it."""
    lab.write_file(agent.flag, "")
    if agent.process is not None and agent.process.poll() is None:
        agent.wait(lambda st: st["refusing"], 15, "the store refuses")
    return lambda: os.unlink(agent.flag)


def waits_for_us(server):
    return server.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == 1


def test_synchronous_commit_waits_for_the_store(pg, make_streamer, work_dir):
    url = "fault+file://" + lab.make_dir(os.path.join(work_dir, "repo"))
    agent = make_streamer(pg, url=url, tail_interval_ms=3600 * 1000).start()  # nobody waits for it
    agent.wait(lambda st: st["state"] == "streaming")
    pg.sql("CREATE TABLE t (x int)")
    pg.switch_wal()  # who has acknowledged nothing yet is no synchronous standby
    pg.sql("ALTER SYSTEM SET synchronous_standby_names = 'walagent'")
    pg.reload()
    agent.wait(lambda st: st["synchronous"], 15, "the server waits for us")
    done = []
    thread = threading.Thread(daemon=True, target=lambda: [
        done.append(pg.sql("INSERT INTO t VALUES (%s)", x)) for x in range(5)])
    thread.start()
    thread.join(60)
    assert len(done) == 5, "synchronous commits wait for the interval"
    branch = agent.lineage()[0][0]
    committed = lsn(pg.lsn())
    agent.assert_identical(pg, branch, committed)
    go_on, before = stall(agent), agent.status()["puts"]
    done = []
    thread = threading.Thread(target=lambda: (pg.sql("INSERT INTO t VALUES (100)"), done.append(1)))
    thread.start()
    agent.wait(lambda st: st["puts"] > before + 1, 15, "the chunk is refused")
    lab.wait_until(lambda: waits_for_us(pg), 15, "the commit waits")
    assert not done, "a commit returned that is not in the archive"
    go_on()
    thread.join(60)
    assert done
    agent.assert_identical(pg, branch, committed + 1)
    # the only synchronous standby restarts: commits wait, then go on
    agent.kill9()
    thread = threading.Thread(target=lambda: (pg.sql("INSERT INTO t VALUES (101)"), done.append(2)))
    thread.start()
    lab.wait_until(lambda: waits_for_us(pg), 15, "the commit waits")
    assert done == [1]
    agent.start()
    thread.join(60)
    assert done == [1, 2]


@pytest.mark.long  # longer than wal_sender_timeout, which is what it tests
def test_a_full_spool_stops_reading_and_goes_on(keeping, make_streamer, work_dir):
    url = "fault+file://" + lab.make_dir(os.path.join(work_dir, "repo"))
    agent = make_streamer(keeping, url=url, spool_max=4 * MIB).start()
    agent.wait(lambda st: st["state"] == "streaming")
    go_on = stall(agent)
    write_wal(keeping, 12)
    agent.wait(lambda st: "the spool is full" in agent.said(), 15, "the spool is full")
    stuck = restart_lsn(keeping)
    time.sleep(12)
    st = agent.status()
    assert st["spool_bytes"] <= 4 * MIB
    assert st["state"] == "streaming" and st["reconnects"] == 0, "the server lost patience"
    assert restart_lsn(keeping) == stuck
    go_on()
    end = agent.wait_durable(keeping)
    agent.stop()
    agent.assert_identical(keeping, agent.lineage()[0][0], end)


def test_a_segment_that_somebody_pushed_hides_no_gap(keeping, make_streamer):
    """archive_command is set up while the agent is away: what it missed before is streamed."""
    agent = make_streamer(keeping).start()
    agent.wait(lambda st: st["state"] == "streaming")
    write_wal(keeping, 1.5)
    agent.wait_durable(keeping)
    agent.kill9()
    write_wal(keeping, 4)
    name = keeping.value("SELECT pg_walfile_name(pg_switch_wal())")
    write_wal(keeping, 0.5)
    agent.command("push", agent.url, os.path.join(keeping.data, "pg_wal", name))
    agent.start()
    end = agent.wait_durable(keeping)
    assert agent.status()["hole_end"] == 0
    agent.stop()
    agent.assert_identical(keeping, agent.lineage()[0][0], end)


def test_a_lost_slot_is_a_declared_hole(make_pg, make_streamer):
    server = make_pg(wal_segsize=1, wal_keep_size="0", max_wal_size="2MB", min_wal_size="2MB")
    agent = make_streamer(server).start()
    agent.wait(lambda st: st["state"] == "streaming")
    agent.wait_durable(server)
    durable = agent.stop()["durable"]
    server.sql("SELECT pg_drop_replication_slot('walagent')")
    for _ in range(3):
        write_wal(server, 3)
        server.sql("CHECKPOINT")
    agent.start()
    st = agent.wait(lambda st: st["hole_end"] > 0, 15, "the hole")
    assert st["hole_begin"] == durable and st["hole_end"] > durable
    agent.wait_durable(server)
    agent.wait(lambda st: glob.glob(agent.cluster_dir() + "/event/*/*.json"), 10, "the event")
    assert "Take a base backup" in agent.said()
    agent.stop()


@pytest.mark.parametrize("stop", [0, 1])
def test_damage_in_the_servers_wal(keeping, make_streamer, stop):
    """A flipped bit on the server's disk: the same twice, so it is the server's history."""
    agent = make_streamer(keeping, stop_on_damage=stop).start()
    agent.wait(lambda st: st["state"] == "streaming")
    agent.wait_durable(keeping)
    durable = agent.stop()["durable"]
    write_wal(keeping, 1)
    name = keeping.switch_wal()
    write_wal(keeping, 1)
    path = os.path.join(keeping.data, "pg_wal", name)
    with open(path, "r+b") as f:
        f.seek(300000)
        byte = f.read(1)
        f.seek(300000)
        f.write(bytes([byte[0] ^ 0x40]))
    branch = agent.lineage()[0][0]
    agent.start()
    agent.wait(lambda st: st["damaged"] == 1, 15, "damage is seen")
    assert "sent the same damaged WAL twice" in agent.said()
    if stop:
        time.sleep(2)
        segment = "%08X" % (lsn(keeping.lsn()) // MIB)
        assert agent.status()["durable"] < lsn(keeping.lsn()) and segment not in agent.segments(branch)
        assert name not in agent.segments(branch)
        agent.kill9()
        return
    end = agent.wait_durable(keeping)
    agent.stop()
    agent.assert_identical(keeping, branch, end)
    meta = lab.read_file(agent.segments(branch)[name] + ".meta")
    assert '"checked":false' in meta.replace(" ", "")
    others = [n for n in agent.segments(branch) if n != name]
    assert others and all('"checked":true' in lab.read_file(agent.segments(branch)[n] + ".meta")
                          .replace(" ", "") for n in others)
    assert durable < end


def promote_over(primary, standby, how="kill9"):
    getattr(primary, how)()
    standby.promote()


@pytest.mark.parametrize("edge", [False, True])
def test_promotion_while_streaming(make_pg, make_streamer, work_dir, edge):
    old = make_pg(wal_segsize=1, wal_keep_size="1GB")
    old.sql("CREATE TABLE t AS SELECT 1 AS x")
    new = old.standby(os.path.join(work_dir, "new"), wal_keep_size="1GB")
    make_pg.adopt(new)
    new.start()
    agent = make_streamer(old, new).start()
    agent.wait(lambda st: st["state"] == "streaming")
    write_wal(old, 2.3)
    if edge:
        old.switch_wal()
    agent.wait_durable(old)
    lab.wait_until(lambda: new.value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = "
                                     "'walagent'") == 1, 15, "the slot on the standby")
    new.caught_up_with(old)
    promote_over(old, new, "stop" if edge else "kill9")
    write_wal(new, 2.3)
    end = agent.wait_durable(new, 20)
    agent.stop()
    parent, child = agent.lineage()
    assert parent[0].startswith("00000001-") and child[0].startswith("00000002-")
    fork = child[1]
    assert fork == lsn(lab.read_file(new.data + "/pg_wal/00000002.history").split("\t")[1])
    agent.assert_identical(new, parent[0], fork, os.path.join(old.data, "pg_wal"))
    agent.assert_identical(new, child[0], end)


@pytest.mark.parametrize("point", SWITCHING)
def test_kill_while_switching_repeats_the_switch(make_pg, make_streamer, work_dir, point):
    old = make_pg(wal_segsize=1, wal_keep_size="1GB")
    new = old.standby(os.path.join(work_dir, "new"), wal_keep_size="1GB")
    make_pg.adopt(new)
    new.start()
    agent = make_streamer(old, new).start()
    agent.wait(lambda st: st["state"] == "streaming")
    write_wal(old, 1.3)
    agent.wait_durable(old)
    new.caught_up_with(old)
    agent.stop()
    promote_over(old, new)
    agent.start(crash=point)
    agent.wait_killed()
    write_wal(new, 1.3)
    end = agent.start().wait_durable(new, 20)
    agent.stop()
    steps = agent.lineage()
    assert [b[:8] for b, _ in steps] == ["00000001", "00000002"]
    agent.assert_identical(new, steps[0][0], steps[1][1], os.path.join(old.data, "pg_wal"))
    agent.assert_identical(new, steps[1][0], end)


def test_two_promotions_while_away_heal_the_hole(make_pg, make_streamer, work_dir):
    a = make_pg(wal_segsize=1, wal_keep_size="1GB")
    b = a.standby(os.path.join(work_dir, "b"), wal_keep_size="1GB")
    make_pg.adopt(b)
    b.start()
    agent = make_streamer(a, b).start()
    agent.wait(lambda st: st["state"] == "streaming")
    write_wal(a, 1.5)
    agent.wait_durable(a)
    lab.wait_until(lambda: b.value("SELECT count(*) FROM pg_replication_slots") == 1, 15, "slot on b")
    agent.stop()
    write_wal(a, 2)  # only the replica will have this
    b.caught_up_with(a)
    promote_over(a, b)
    write_wal(b, 1.2)
    c = b.standby(os.path.join(work_dir, "c"), wal_keep_size="1GB")
    make_pg.adopt(c)
    subprocess.run("cp -an %s/pg_wal/0* %s/pg_wal/" % (b.data, c.data), shell=True, check=True)
    c.start()
    c.caught_up_with(b)
    promote_over(b, c)
    write_wal(c, 1.2)
    later = make_streamer(a, b, c, url=agent.url, init=False)
    later.spool = agent.spool
    end = later.start().wait_durable(c, 20)
    later.stop()
    steps = later.lineage()
    assert [s[0][:8] for s in steps] == ["00000001", "00000002", "00000003"]
    wal = os.path.join(c.data, "pg_wal")
    later.assert_identical(c, steps[0][0], steps[1][1], wal)
    later.assert_identical(c, steps[1][0], steps[2][1], wal)
    later.assert_identical(c, steps[2][0], end)
    assert later.status()["hole_end"] == 0


def test_another_writer_takes_over_and_the_old_one_is_fenced(keeping, make_streamer):
    first = make_streamer(keeping, tail_interval_ms=200).start()
    first.wait(lambda st: st["state"] == "streaming")
    write_wal(keeping, 1.5)
    first.wait_durable(keeping)
    second = make_streamer(keeping, url=first.url, init=False, tail_interval_ms=200).start()
    second.wait(lambda st: st["state"] == "waiting")
    time.sleep(3)
    assert second.status()["state"] == "waiting"
    first.kill9()
    second.wait(lambda st: st["state"] == "streaming" and st["epoch"] == 2, 20, "the second streams")
    write_wal(keeping, 1.5)
    second.wait_durable(keeping)
    first.start().wait(lambda st: st["state"] == "waiting")
    second.stop()
    first.wait(lambda st: st["state"] == "streaming" and st["epoch"] == 3, 20, "the first again")
    keeping.sql("CREATE TABLE more AS SELECT 1 AS x")
    end = first.wait_durable(keeping)
    first.stop()
    first.assert_identical(keeping, first.lineage()[0][0], end)


def seal_at_end(agent):
    """Seals the epoch where the archive ends; the server may write something by itself meanwhile."""
    def sealed():
        at = agent.status()["durable"]
        return at if agent.command("seal", agent.url, at, check=None).returncode == 0 else None
    return lab.wait_until(sealed, 30, "the end stands still for a seal")


def epoch_of(agent):
    return int(re.search(r"epoch=(\d+)", agent.command("lineage", agent.url).stdout).group(1))


def test_a_kill_between_taking_over_and_the_seal_is_made_good(keeping, make_streamer):
    first = make_streamer(keeping, tail_interval_ms=200).start()
    first.wait(lambda st: st["state"] == "streaming")
    first.wait_durable(keeping)
    first.kill9()

    def seals():
        facts = [json.loads(lab.read_file(p)) for p in glob.glob(
            os.path.join(first.cluster_dir(), "tail", "*", "*", "00000001", "*.meta"))]
        assert facts
        return [f for f in facts if f["base"] == f["end"]]

    second = make_streamer(keeping, url=first.url, init=False, tail_interval_ms=200)
    second.start(crash="seal-before-put:1")
    second.wait_killed()
    assert epoch_of(first) == 2 and not seals()
    second.start().wait(lambda st: st["state"] == "streaming")
    assert len(seals()) == 1
    end = second.wait_durable(keeping)
    second.stop()
    second.assert_identical(keeping, second.lineage()[0][0], end)


def test_the_agent_of_a_primary_left_behind_takes_nothing_back(make_pg, make_streamer, work_dir):
    """Each agent knows its own server only, and nobody fences the old primary."""
    old = make_pg(wal_segsize=1, wal_keep_size="1GB", synchronous_commit="on")
    first = make_streamer(old, tail_interval_ms=200).start()
    first.wait(lambda st: st["state"] == "streaming")
    new = old.standby(os.path.join(work_dir, "new"))
    make_pg.adopt(new)
    new.start()
    second = make_streamer(new, url=first.url, init=False, tail_interval_ms=200).start()
    second.wait(lambda st: st["state"] == "waiting")
    time.sleep(4)  # its free slot on the standby is no reason
    assert second.status()["state"] == "waiting" and epoch_of(first) == 1
    new.promote()
    second.wait(lambda st: st["state"] == "streaming" and st["branch"].startswith("00000002"), 30)
    epoch = epoch_of(first)
    for n in range(6):
        old.sql("CREATE TABLE zombie%d AS SELECT generate_series(1, 100)" % n)
        new.sql("CREATE TABLE living%d AS SELECT generate_series(1, 100)" % n)
        time.sleep(1)
    assert epoch_of(first) == epoch
    end = second.wait_durable(new)
    first.wait(lambda st: st["state"] in ("fenced", "waiting", "retrying"), 15, "the first one is held up")
    second.stop()
    branch, begin = second.lineage()[-1]
    assert branch.startswith("00000002") and begin < end


def test_a_seal_fences_the_writer_until_its_next_run(keeping, make_streamer):
    agent = make_streamer(keeping, tail_interval_ms=200).start()
    agent.wait(lambda st: st["state"] == "streaming")
    agent.wait_durable(keeping)
    sealed = seal_at_end(agent)
    write_wal(keeping, 2.5)
    agent.wait(lambda st: st["state"] == "fenced", 15, "fenced")
    time.sleep(2)
    assert agent.status()["durable"] == sealed
    assert restart_lsn(keeping) <= sealed, "something behind the seal was acknowledged"
    archived = [int(n[8:16], 16) * 4096 + int(n[16:], 16)
                for n in agent.segments(agent.lineage()[0][0])]
    assert all(segno < sealed // MIB for segno in archived), "a segment behind the seal"
    agent.stop()
    agent.start().wait(lambda st: st["state"] == "streaming" and st["epoch"] == 2)
    end = agent.wait_durable(keeping)
    agent.stop()
    agent.assert_identical(keeping, agent.lineage()[0][0], end)


def test_a_seal_holds_back_the_agent_that_waits_beside_the_writer(keeping, make_streamer):
    """Every node has an agent; what the seal told must not be passed by the next one."""
    first = make_streamer(keeping, tail_interval_ms=200).start()
    first.wait(lambda st: st["state"] == "streaming")
    first.wait_durable(keeping)
    second = make_streamer(keeping, url=first.url, init=False, tail_interval_ms=200).start()
    second.wait(lambda st: st["state"] == "waiting")
    sealed = seal_at_end(first)
    write_wal(keeping, 1.5)
    first.wait(lambda st: st["state"] == "fenced", 15, "fenced")
    second.wait(lambda st: "not taking over" in second.said(), 30, "it sees the free slot, and the seal")
    first.kill9()  # an agent that is gone makes no difference
    time.sleep(4)
    assert second.status()["state"] == "waiting" and epoch_of(first) == 1
    assert restart_lsn(keeping) <= sealed, "something behind the seal was acknowledged"
    second.stop()
    second.start()  # a person's word to go on
    second.wait(lambda st: st["state"] == "streaming" and st["epoch"] == 2, 20, "a new run goes on")
    end = second.wait_durable(keeping)
    second.stop()
    second.assert_identical(keeping, second.lineage()[0][0], end)


def test_a_server_with_other_wal_is_refused(make_pg, make_streamer, work_dir):
    """The same cluster from an older copy: same identity and timeline, other bytes."""
    server = make_pg(wal_segsize=1, wal_keep_size="1GB")
    server.stop()
    copy = os.path.join(work_dir, "copy")
    subprocess.run(["cp", "-a", server.data, copy], check=True)
    server.start()
    agent = make_streamer(server).start()
    agent.wait(lambda st: st["state"] == "streaming")
    server.sql("CREATE TABLE t AS SELECT 1 AS x")
    agent.wait_durable(server)
    durable = agent.stop()["durable"]
    server.stop()
    shutil.rmtree(server.data)
    shutil.move(copy, server.data)
    server.start()
    write_wal(server, 1)
    agent.start()
    agent.wait(lambda st: "shows other WAL" in agent.said() or "behind" in agent.said(), 15, "refused")
    time.sleep(1)
    st = agent.status()
    assert st["state"] != "streaming" or st["durable"] <= durable
    assert restart_lsn(server) <= durable
    agent.stop()
