"""Base backups that are read from the data directory: what is in them, and what is refused."""
import os
import signal
import subprocess
import time

import psycopg2
import pytest

import lab
from test_backup import backup, content, durable, is_ready, labels, leftovers, wa_popen
from test_backup import streaming  # noqa: F401  (a fixture)


def local(wa, *argv, **more):
    return backup(wa, "--source", "local", *argv, **more)


def restore(wa, make_pg, directory, major, *argv):
    """Restored, checked by pg_verifybackup, not started."""
    copy = lab.Postgres(directory, major)
    wa.run("restore", "-D", copy.data, *argv)
    make_pg.adopt(copy)
    copy.tool("pg_verifybackup", "-n", "-q", copy.data)
    return copy


def open_up(copy):
    copy.start()
    lab.wait_until(lambda: copy.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
    return copy


def test_a_local_backup_is_restored_and_its_data_are_equal(make_pg, major, streaming, work_dir):
    pg = make_pg(major)
    wa = streaming(pg)
    pg.pgbench("-i", "-s", "2", "-q")
    info = local(wa, "--label", "here")
    assert info["source"] == "local" and info["note"] == "here"
    durable(wa, pg)
    expected = content(pg, ["pgbench_accounts", "pgbench_tellers"])
    assert wa.run("verify").returncode == 0
    copy = open_up(restore(wa, make_pg, work_dir + "/copy", major))
    assert content(copy, ["pgbench_accounts", "pgbench_tellers"]) == expected
