"""The promise: a primary dies with its disk, and what it had acknowledged is restored from the
archive alone. Clients write down which of their commits returned; the restored server is compared
with that.

Asynchronously an interval and an upload may be lost: what had returned before is there, as soon as
the agent says that it is durable, which it does while its clients go on. The end comes at any moment
of the next two intervals. With the agent as the synchronous standby everything is there. In both
modes each client's commits come back as a beginning without gaps, with everything that the agent had
reported as flushed.

A round ends with the restored server in the dead one's place, and the agent follows it: the next
round is on the next timeline.
"""
import os
import random
import shutil
import threading
import time

import psycopg2
import pytest

import lab
from test_backup import backup, follow, number

CLIENTS = 4
TAIL_INTERVAL = 0.3


class Ledger:
    """Clients that commit one row after the other, and remember what returned, and when."""

    def __init__(self, server):
        self.server = server
        self.lock = threading.Lock()
        self.returned = {}  # (client, n): (moment, end of WAL a little later)
        self.tried = set()
        self.next = [0] * CLIENTS
        self.threads = []

    def start(self):
        self.stopping = False
        self.threads = [threading.Thread(target=self.client, args=(c,)) for c in range(CLIENTS)]
        for thread in self.threads:
            thread.start()
        return self

    def client(self, me):
        try:
            with self.server.connect() as connection, connection.cursor() as cursor:
                while not self.stopping:
                    row = (me, self.next[me])
                    self.next[me] += 1
                    with self.lock:
                        self.tried.add(row)
                    cursor.execute("INSERT INTO ledger VALUES (%s, %s, repeat('x', %s))",
                                   row + ((row[1] * 37) % 1500,))
                    moment = time.monotonic()
                    cursor.execute("SELECT pg_current_wal_insert_lsn()::text")
                    with self.lock:
                        self.returned[row] = (moment, number(cursor.fetchone()[0]))
                    time.sleep(0.002)
        except psycopg2.Error:
            pass  # the server is gone

    def join(self):
        self.stopping = True
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"

    def count(self):
        with self.lock:
            return len(self.returned)

    def end(self):
        """Of the WAL of everything that has returned."""
        with self.lock:
            return max(end for _, end in self.returned.values())

    def forget(self, present):
        """The restored server is what is true now."""
        self.returned = dict.fromkeys(present, (0, 0))
        self.tried = set(present)
        self.next = [1 + max([n for c, n in present if c == me], default=-1)
                     for me in range(CLIENTS)]


class Watcher:
    """What is durable, as the agent itself says."""

    def __init__(self, wa):
        self.wa, self.durable = wa, 0
        self.stopping = False
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while not self.stopping:
            try:
                stream = lab.json.loads(self.wa.http("/status")[1]).get("stream") or {}
            except (OSError, ValueError):
                stream = {}  # it is killed
            self.durable = max(self.durable, number(stream.get("durable_lsn") or "0/0"))
            time.sleep(0.02)

    def stop(self):
        self.stopping = True
        self.thread.join(30)


class Proof:
    def __init__(self, seed, make_pg, make_walagent, repository, synchronous, major=15):
        self.random = random.Random(seed)
        self.synchronous = synchronous
        self.pg = make_pg(major, wal_segsize=1)
        self.pg.sql("CREATE TABLE ledger (client int, n int, filler text)")
        self.ledger = Ledger(self.pg)
        self.wa = make_walagent(repository, self.pg,
                                settings={"archive.tail_interval": "%dms" % (TAIL_INTERVAL * 1000)})
        self.wa.expect(lab.COMES_AND_GOES)
        follow(self.wa)
        backup(self.wa)

    def round(self, agent_dies):
        self.enter_mode()
        before = self.ledger.count()
        self.ledger.start()
        watcher = Watcher(self.wa)
        lab.wait_until(lambda: self.ledger.count() > before + 20, 30, "commits return")
        time.sleep(self.random.uniform(0.1, 2.5))
        due = self.ledger.end()
        lab.wait_until(lambda: watcher.durable >= due, 30, "what has returned becomes durable")
        time.sleep(self.random.uniform(0, 2 * TAIL_INTERVAL))
        flushed = self.flushed()
        end = time.monotonic()
        if agent_dies and self.random.random() < 0.5:
            self.wa.kill9()
        self.pg.kill9()
        if agent_dies:
            self.wa.kill9()
        self.ledger.join()
        watcher.stop()
        shutil.rmtree(self.pg.data)
        if agent_dies:  # it lived on the same machine
            shutil.rmtree(self.wa.sections["agent"]["state_dir"] + "/spool")
        else:
            self.settle()
        self.restore()
        self.compare(end, max(flushed, watcher.durable, due))
        if agent_dies:
            self.wa.start(ready=False)

    def enter_mode(self):
        def streams():
            rows = self.pg.sql("SELECT sync_state FROM pg_stat_replication s JOIN "
                               "pg_replication_slots ON active_pid = pid WHERE slot_name = "
                               "'walagent' AND state = 'streaming'")
            return rows and rows[0][0] in (("sync", "quorum") if self.synchronous else ("async",))
        if self.synchronous:
            self.pg.sql("ALTER SYSTEM SET synchronous_standby_names = 'walagent'")
            self.pg.reload()
        try:
            lab.wait_until(streams, 30, "the agent streams in the mode asked for")
        except AssertionError as e:
            raise AssertionError("%s\n%s" % (e, self.wa.log[-4000:]))

    def flushed(self):
        return number(self.pg.value("SELECT coalesce(flush_lsn, '0/0')::text FROM "
                                    "pg_stat_replication JOIN pg_replication_slots ON active_pid = "
                                    "pid WHERE slot_name = 'walagent'"))

    def settle(self):
        """A living agent ships what it has received, with no server to be seen."""
        def nothing_waits():
            stream = lab.json.loads(self.wa.http("/status")[1])["stream"]
            return stream["lag_ms"] == 0 and stream["state"] != "streaming"
        lab.wait_until(nothing_waits, 30, "the agent has shipped everything")

    def restore(self):
        """From the archive alone, into the dead one's place."""
        lab.make_dir(self.pg.dir)
        lab.own(self.pg.dir)
        self.wa.run("restore", "-D", self.pg.data, "--to-latest")
        self.pg.start()
        lab.wait_until(lambda: self.pg.value("SELECT NOT pg_is_in_recovery()"), 60, "recovered")

    def compare(self, end, durable):
        present = set(self.pg.sql("SELECT client, n FROM ledger"))
        returned = self.ledger.returned
        lost = {row: t for row, (t, _) in returned.items() if row not in present}
        told = "%d returned, %d lost; %s" % (
            len(returned), len(lost), sorted("%.3f s before" % (end - t) for t in lost.values())[-5:])
        print(told)
        assert present <= self.ledger.tried, "rows that nobody wrote"
        for me in range(CLIENTS):
            mine = sorted(n for c, n in present if c == me)
            assert mine == list(range(len(mine))), "a gap in the middle: " + told
        safe = [row for row, (_, lsn) in returned.items() if lsn <= durable]
        assert present.issuperset(safe), "lost what was reported durable: " + told
        if self.synchronous:
            assert not lost, told
        self.ledger.forget(present)


def play(proof, rounds, agent_dies):
    for _ in range(rounds):
        proof.round(agent_dies)
    assert proof.pg.timeline() == rounds + 1


@pytest.fixture
def work_dir(work_dir):
    lab.own(work_dir)  # restore makes the data directory anew
    return work_dir


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize("agent_dies", [False, True], ids=["agent-lives", "agent-dies"])
@pytest.mark.parametrize("synchronous", [False, True], ids=["asynchronous", "synchronous"])
def test_what_returned_is_restored_from_the_archive_alone(make_pg, make_walagent, file_repository,
                                                          synchronous, agent_dies, rounds):
    seed = int(os.environ.get("WALAGENT_SEED") or random.randrange(1 << 32))
    print("WALAGENT_SEED=%d" % seed)
    play(Proof(seed, make_pg, make_walagent, file_repository, synchronous), rounds, agent_dies)


@pytest.mark.parametrize("synchronous", [False, True], ids=["asynchronous", "synchronous"])
def test_the_same_on_s3(make_pg, make_walagent, s3_repository, synchronous):
    seed = int(os.environ.get("WALAGENT_SEED") or random.randrange(1 << 32))
    print("WALAGENT_SEED=%d" % seed)
    play(Proof(seed, make_pg, make_walagent, s3_repository, synchronous), 1, True)
