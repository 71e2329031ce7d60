"""The laboratory itself: what the other tests rely on."""
import psycopg2
import pytest

import lab


def test_a_server_survives_a_crash_and_a_replica_can_be_promoted(make_pg, major, work_dir):
    primary = make_pg(major)
    assert primary.value("SHOW server_version_num").startswith(str(major))
    assert primary.value("SHOW data_checksums") == "on"
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    primary.kill9()
    assert not primary.is_running()
    with pytest.raises(psycopg2.OperationalError):
        primary.sql("SELECT 1")
    primary.start()
    assert primary.value("SELECT count(*) FROM t") == 1000
    replica = primary.standby(work_dir + "/replica")
    make_pg.adopt(replica)
    replica.start()
    primary.sql("INSERT INTO t VALUES (1001)")
    assert replica.caught_up_with(primary).value("SELECT count(*) FROM t") == 1001
    replica.promote()
    assert replica.value("SELECT pg_is_in_recovery()") is False
    replica.sql("INSERT INTO t VALUES (1002)")
    assert replica.sql("CHECKPOINT") == [] and replica.timeline() == 2


def test_templates_share_an_identifier_and_fresh_servers_do_not(make_pg):
    a, b = make_pg(start=False), make_pg(start=False)
    c = make_pg(start=False, fresh=True, checksums=False, wal_segsize=1)
    assert a.system_identifier == b.system_identifier != c.system_identifier
    assert c.control()["Bytes per WAL segment"] == "1048576"


def test_ceph_takes_and_returns_objects(ceph):
    bucket = ceph.make_bucket()
    for i in range(3):
        ceph.client.put(bucket, "a/%d" % i, b"x" * i)
    assert ceph.client.keys(bucket, "a/") == ["a/0", "a/1", "a/2"]
    assert ceph.client.get(bucket, "a/2") == b"xx"
    secure = lab.S3Client(ceph.tls_endpoint, ceph.access_key, ceph.secret_key, ceph.region, ceph.ca)
    assert secure.get(bucket, "a/1") == b"x"
    ceph.client.delete(bucket, "a/1")
    assert ceph.client.keys(bucket) == ["a/0", "a/2"]


def test_unexpected_lines_in_a_log_are_found():
    agent = lab.Walagent.__new__(lab.Walagent)
    agent.expected = []
    agent.log_path = "/nonexistent"
    assert agent.unexpected_errors() == []
    for line in ("2026-01-01 00:00:00 UTC [1] ERROR:  x", "==1==ERROR: AddressSanitizer: heap",
                 "store.c:1: runtime error: shift", '{"level":"error","message":"x"}'):
        assert lab.UNEXPECTED.search(line), line
    for line in ("LOG:  no error", "WARNING:  errors: 0"):
        assert not lab.UNEXPECTED.search(line), line
