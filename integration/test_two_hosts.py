"""Two servers, one agent that knows both: failover, the old primary rewound and attached again by
walagent's restore_command, failover back. What the bucket holds afterwards is compared with a
ledger of commits that returned."""
import os
import time

import pytest

import lab
from test_backup import backup, durable, follow, number
from test_failover import fork_of, timeline_of
from test_hooks import restore_command
from test_proof import Ledger


class TwoHosts:
    def __init__(self, make_pg, make_walagent, repository, work_dir, major, synchronous):
        settings = {"wal_log_hints": "on", "wal_keep_size": "0", "autovacuum": "off"}
        self.synchronous = synchronous
        self.old = make_pg(major, wal_segsize=1, start=False, **settings)
        self.wa = make_walagent(repository, self.old, settings={"archive.tail_interval": "300ms"})
        self.old.configure(restore_command=restore_command(self.wa))
        self.old.start()
        self.new = self.old.standby(os.path.join(work_dir, "new"))
        make_pg.adopt(self.new)
        self.new.start()
        self.wa.set("cluster.conninfo", "host=%s,%s port=%d,%d user=postgres" % (
            self.old.dir, self.new.dir, self.old.port, self.new.port))
        self.wa.expect("WARNING")
        self.old.sql("CREATE TABLE ledger (client int, n int, filler text)")
        follow(self.wa)
        backup(self.wa)
        if synchronous:
            for server in (self.old, self.new):
                server.configure(synchronous_standby_names="walagent")
                server.reload()
        self.moments = []  # (time, rows that were there)
        self.rows = set()  # returned on the accepted history

    def streams_from(self, server):
        mode = ("sync", "quorum") if self.synchronous else ("async",)

        def is_so():
            rows = server.sql("SELECT sync_state FROM pg_stat_replication s JOIN "
                              "pg_replication_slots ON active_pid = pid WHERE slot_name = "
                              "'walagent' AND state = 'streaming'")
            return rows and rows[0][0] in mode
        try:
            lab.wait_until(is_so, 40, "the agent streams from %s" % server.dir)
        except AssertionError as e:
            raise AssertionError("%s\n%s" % (e, self.wa.log[-5000:]))

    def has_slot(self, server):
        lab.wait_until(lambda: server.value("SELECT count(*) FROM pg_replication_slots WHERE "
                                            "slot_name = 'walagent'") == 1, 30, "its slot")

    def write(self, server, commits=60):
        """Clients that are joined; what was there at a moment behind them."""
        ledger = self.ledger(server)
        ledger.start()
        lab.wait_until(lambda: ledger.count() >= len(self.rows) + commits, 60, "commits return")
        ledger.join()
        self.rows = set(ledger.returned)
        moment = server.value("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', "
                              "'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        time.sleep(0.05)
        self.moments.append((moment, set(self.rows)))

    def ledger(self, server):
        ledger = Ledger(server)
        ledger.forget(self.rows)
        return ledger

    def fail_over(self, dying, heir):
        """Kill the primary while it is written to. What its clients had been told, and what the
        bucket had before, must be on the heir."""
        dying.sql("CHECKPOINT")
        for _ in range(3):
            dying.switch_wal()
            dying.sql("CREATE TABLE IF NOT EXISTS noise (i int); INSERT INTO noise VALUES (1)")
        ledger = self.ledger(dying)
        ledger.start()
        lab.wait_until(lambda: ledger.count() >= len(self.rows) + 100, 60, "commits return")
        in_bucket = number(lab.json.loads(self.wa.http("/status")[1])["stream"]["durable_lsn"])
        dying.kill9()
        ledger.join()
        assert heir.value("SELECT pg_promote(true, 60)")
        present = set(heir.sql("SELECT client, n FROM ledger"))
        lost = set(ledger.returned) - present
        assert present <= ledger.tried
        if self.synchronous:
            assert not lost
        assert not [row for row in lost if ledger.returned[row][1] <= in_bucket]
        for client in {c for c, _ in present}:
            mine = sorted(n for c, n in present if c == client)
            assert mine == list(range(len(mine))), "a gap in the middle"
        self.rows = present
        self.streams_from(heir)

    def rewind(self, server, primary):
        """Of what lies before the fork the server has nothing any more but in the archive."""
        server.tool("postgres", "--single", "-D", server.data, "template1", stdin_text="")
        fork = fork_of(primary) // (1024 * 1024)
        keep = "%08X%08X" % (fork // 4096, fork % 4096)
        gone = [f for f in os.listdir(server.data + "/pg_wal") if len(f) == 24 and f[8:] < keep]
        assert gone
        for name in gone:
            os.unlink(os.path.join(server.data, "pg_wal", name))
        primary.sql("CHECKPOINT")  # else pg_rewind of old majors sees one timeline only
        done = server.tool("pg_rewind", "-D", server.data, "--source-server", primary.conninfo(),
                           "-c", "-R")
        assert "no rewind required" not in done.stderr, done.stderr
        server.configure(port=server.port)
        server.start()
        server.caught_up_with(primary)


@pytest.mark.parametrize("synchronous", [False, True], ids=["asynchronous", "synchronous"])
def test_failover_rewind_and_failover_back(make_pg, make_walagent, file_repository, work_dir, major,
                                           synchronous):
    lab.own(work_dir)
    hosts = TwoHosts(make_pg, make_walagent, file_repository, work_dir, major, synchronous)
    old, new, wa = hosts.old, hosts.new, hosts.wa
    hosts.streams_from(old)
    hosts.has_slot(new)
    hosts.write(old)
    hosts.fail_over(old, new)
    assert timeline_of(new) == 2
    hosts.write(new)
    hosts.rewind(old, new)
    assert old.value("SELECT pg_is_in_recovery()")
    assert set(old.sql("SELECT client, n FROM ledger")) == hosts.rows
    hosts.has_slot(old)
    hosts.write(new)
    hosts.fail_over(new, old)
    assert timeline_of(old) == 3
    hosts.write(old)
    old.sql("CREATE TABLE later ()")  # the archive can only tell of a moment what was committed after it
    durable(wa, old)
    assert wa.run("verify").returncode == 0
    accepted = [b["timeline"] for b in wa.json("lineage")["branches"] if b["standing"] == "accepted"]
    assert sorted(accepted) == [1, 2, 3]
    for n, (moment, rows) in enumerate(hosts.moments):
        copy = lab.Postgres("%s/copy%d" % (work_dir, n), major)
        wa.run("restore", "-D", copy.data, "--to-time", moment)
        make_pg.adopt(copy)
        copy.start()
        lab.wait_until(lambda: not copy.value("SELECT pg_is_in_recovery()"), 60, "recovered")
        assert set(copy.sql("SELECT client, n FROM ledger")) == rows, "at moment %d" % n
        copy.stop("immediate")
