"""A repository whose store has no conditional PUT: one agent, no synchronous mode, and both are
said. Swift is such a store; a directory is made one for `init`, which records what it finds."""
import os
import shutil
import threading

import pytest

import lab
from test_backup import durable, follow


@pytest.fixture(params=["directory", "swift"])
def make_agent(request, make_walagent, file_repository, work_dir):
    repository = file_repository
    tool = shutil.copy(os.path.join(lab.BUILD, "tests", "wal-tool"), work_dir)
    if request.param == "swift":
        server = request.getfixturevalue("swift")
        repository = server.settings(server.make_bucket(), "archive")

    def make(pg, start=True):
        wa = make_walagent(repository, pg, settings={"archive.tail_interval": "200ms"})
        if not start:
            return wa
        if request.param != "swift":
            lab.run([tool, "init", pg.conninfo(dbname=None), "unconditional+" + repository["url"]])
        follow(wa)
        assert wa.json("init")["single_writer"] is True
        return wa
    return make


def test_a_second_agent_is_refused(pg, make_agent):
    first = make_agent(pg)
    second = make_agent(pg, start=False).expect("no conditional PUT")
    second.start(ready=False)
    assert second.process.wait(30) != 0
    assert "only one agent may write it" in second.log and "HINT" in second.log, second.log
    pg.sql("CREATE TABLE t AS SELECT 1 AS x")
    durable(first, pg)
    first.stop()
    pg.sql("CREATE TABLE u AS SELECT 1 AS x")
    first.start()  # the writer itself may come again
    durable(first, pg)


def test_synchronous_mode_is_refused_and_archiving_goes_on(pg, make_agent):
    wa = make_agent(pg).expect("synchronous mode is refused")
    pg.sql("CREATE TABLE t (x int)")
    durable(wa, pg)
    pg.sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (\"WalAgent\")'")
    pg.reload()
    wa.wait_log("synchronous mode is refused", 30)
    returned = []
    commit = threading.Thread(target=lambda: (pg.sql("INSERT INTO t VALUES (1)"), returned.append(1)))
    commit.start()
    durable(wa, pg)
    commit.join(3)
    assert not returned, "a commit relied on a store that can't keep it"
    (row,) = pg.sql("SELECT sync_state, flush_lsn IS NULL FROM pg_stat_replication")
    assert row == ("async", True)
    checked = wa.json("check", check=None)
    (finding,) = [f for f in checked["findings"] if f["what"] == "synchronous"]
    assert finding["verdict"] == "failed" and "conditional PUT" in finding["detail"]
    pg.sql("ALTER SYSTEM RESET synchronous_standby_names")
    pg.reload()
    commit.join(30)
    assert returned
    pg.sql("INSERT INTO t VALUES (2)")
    target = pg.lsn()
    lab.wait_until(lambda: pg.value("SELECT flush_lsn >= %s::pg_lsn FROM pg_stat_replication", target),
                   30, "positions are acknowledged again")


def test_check_refuses_remote_apply(pg, make_walagent, file_repository):
    wa = follow(make_walagent(file_repository, pg))

    def finding():
        found = [f for f in wa.json("check", check=None)["findings"] if f["what"] == "synchronous"]
        return [(f["verdict"], "remote_apply" in f["detail"]) for f in found]

    assert finding() == []
    pg.sql("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (other, walagent)'")
    pg.reload()
    lab.wait_until(lambda: finding() == [("ok", False)], 15, "synchronous mode is found")
    pg.sql("SET synchronous_commit = local; ALTER DATABASE postgres SET synchronous_commit = remote_apply")
    assert finding() == [("failed", True)]
    pg.sql("SET synchronous_commit = local; ALTER DATABASE postgres RESET synchronous_commit")
    assert finding() == [("ok", False)]
    pg.sql("ALTER SYSTEM SET synchronous_commit = 'remote_apply'")
    pg.reload()
    lab.wait_until(lambda: finding() == [("failed", True)], 15, "remote_apply is found")
    pg.sql("ALTER SYSTEM RESET synchronous_standby_names")
    pg.reload()
    lab.wait_until(lambda: finding() == [], 15, "nothing is synchronous any more")
