"""The network is cut without a word, and the store's name stops resolving: what was acknowledged is in
the archive, the server keeps the rest, and everything arrives afterwards."""
import os
import socket
import subprocess
import time
import urllib.parse

import pytest

import lab
import network
from test_backup import number
from test_stream import MIB, Load, restart_lsn, write_wal


@pytest.fixture
def cell():
    made = network.Cell().open()
    if made is None:
        pytest.skip("needs root and a network namespace of its own")
    yield made
    made.close()


@pytest.fixture
def forward():
    all_of_them = []

    def make(*argv):
        all_of_them.append(network.Forwarder(*argv))
        return all_of_them[-1]
    yield make
    for f in all_of_them:
        f.close()


def stream(wa):
    return wa.json("status", check=(0, 1, 3)).get("stream") or {}


def durable(wa, pg, timeout=60):
    target = number(pg.lsn())
    lab.wait_until(lambda: number(stream(wa).get("durable_lsn") or "0/0") >= target, timeout,
                   "all is durable; " + wa.log[-3000:])


def address(endpoint):
    parts = urllib.parse.urlsplit(endpoint)
    return parts.hostname, parts.port


def behind(forward, host, ceph, pg):
    """The store and the server by a forwarder each; (repository's endpoint, conninfo)."""
    store = forward(host, address(ceph.endpoint))
    server = forward(host, "%s/.s.PGSQL.%d" % (pg.dir, pg.port))
    return "http://%s:%d" % (host, store.port), "host=%s port=%d user=postgres" % (host, server.port)


def assert_whole(wa, pg, ceph, bucket, first):
    """Every segment that the server has since `first` is in the bucket, as the server has it."""
    pg.switch_wal()
    last = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    pg.sql("CREATE TABLE afterwards AS SELECT 1 AS x")
    durable(wa, pg)
    keys = {os.path.basename(k)[:24]: k for k in ceph.client.keys(bucket) if "/wal/" in k}
    names = [n for n in sorted(os.listdir(pg.data + "/pg_wal")) if len(n) == 24 and first <= n < last]
    assert len(names) >= 4 and set(names) <= set(keys), sorted(set(names) - set(keys))
    for name in names:
        ours = subprocess.run(["zstd", "-dcq"], input=ceph.client.get(bucket, keys[name]), check=True,
                              stdout=subprocess.PIPE).stdout
        with open(os.path.join(pg.data, "pg_wal", name), "rb") as f:
            assert ours == f.read(), name
    assert wa.json("verify")["damage"] == []


@pytest.mark.long  # a silent network is believed in for half a minute
def test_a_network_that_swallows_everything_is_noticed_and_costs_nothing(
        make_pg, make_walagent, ceph, cell, forward, work_dir):
    lab.own(work_dir)
    bucket = ceph.make_bucket()
    pg = make_pg(wal_segsize=1, wal_keep_size="1GB", autovacuum="off")
    endpoint, conninfo = behind(forward, cell.host, ceph, pg)
    repository = dict(ceph.settings(bucket, "archive"), s3_endpoint=endpoint)
    wa = make_walagent(repository, pg, settings={"cluster.conninfo": conninfo,
                                                 "archive.tail_interval": "200ms"})
    wa.run("init")
    wa.expect("server .* (says nothing|timed out)")
    cell.start(wa)
    lab.wait_until(lambda: stream(wa).get("state") == "streaming", 30, "it streams; " + wa.log[-2000:])
    first = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    load = Load(pg, 120)
    try:
        write_wal(pg, 2)
        durable(wa, pg)
        cell.cut()
        lab.wait_until(lambda: "says nothing any more" in wa.log, 60, "the silence is noticed")
        lab.wait_until(lambda: stream(wa).get("state") != "streaming", 10, "and told")
        known = number(stream(wa)["durable_lsn"])
        at = number(pg.lsn())
        assert restart_lsn(pg) <= known < at
        write_wal(pg, 4)
        lab.wait_until(lambda: number(pg.lsn()) > at + 3 * MIB, 30, "the server writes on")
        assert restart_lsn(pg) <= known
        cell.mend()
        lab.wait_until(lambda: stream(wa).get("state") == "streaming", 60, "it streams again")
    finally:
        load.stop()
    durable(wa, pg)
    assert_whole(wa, pg, ceph, bucket, first)


@pytest.mark.long
def test_a_name_that_stops_resolving_stops_nothing_for_ever(make_pg, make_walagent, ceph, forward,
                                                            work_dir):
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"]).returncode != 0:
        pytest.skip("needs root and a mount namespace of its own")
    lab.own(work_dir)
    hosts = network.Hosts(work_dir)
    # Ceph takes a host that it doesn't know for a bucket's name.
    name = ceph.make_bucket("store-%d.walagent.test" % os.getpid())
    bucket, _, domain = name.partition(".")
    pg = make_pg(wal_segsize=1, wal_keep_size="1GB", autovacuum="off")
    store = forward("127.0.0.1", address(ceph.endpoint))
    outside = ceph.settings(name, "archive")
    inside = dict(outside, url="s3://%s/archive" % bucket, s3_addressing="virtual",
                  s3_endpoint="http://%s:%d" % (domain, store.port))
    wa = make_walagent(outside, pg, settings={"archive.tail_interval": "200ms"})
    wa.run("init")

    def configure(settings):
        for key, value in settings.items():
            wa.set("repository." + key, value)
    configure(inside)
    hosts.say("127.0.0.1 localhost %s\n" % name)
    hosts.start(wa)
    lab.wait_until(lambda: stream(wa).get("state") == "streaming", 30, "it streams; " + wa.log[-2000:])
    first = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    write_wal(pg, 2)
    durable(wa, pg)
    hosts.say("127.0.0.1 localhost\n")

    def said():  # libcurl remembers an address for a minute
        store.hang_up()
        write_wal(pg, 0.3)
        return "can't be written" in wa.log
    lab.wait_until(said, 180, "the agent says it")
    write_wal(pg, 2)
    assert name in wa.log
    known = number(stream(wa)["durable_lsn"])
    assert restart_lsn(pg) <= known < number(pg.lsn())
    hosts.say("127.0.0.1 localhost %s\n" % name)
    durable(wa, pg, 120)
    wa.wait_log("can be written again")
    configure(outside)  # for the commands
    assert_whole(wa, pg, ceph, name, first)


def nowhere():
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()


def told(wa):
    return [int(line.split("more than ")[1].split(" ")[0]) for line in wa.log.split("\n")
            if "waits to be archived" in line and "more than" in line]


@pytest.mark.long  # ten minutes and what it takes to catch up
def test_ten_minutes_without_the_store_under_load_cost_nothing(make_pg, make_walagent, ceph, forward):
    """The spool fills up and says so at each quarter, then the server keeps the rest; when the store is
    back everything drains in order, the spool first."""
    seconds, spool = 600, 48 * MIB
    bucket = ceph.make_bucket()
    pg = make_pg(wal_segsize=1, wal_keep_size="2GB", autovacuum="off", max_wal_size="2GB")
    store = forward("127.0.0.1", address(ceph.endpoint))
    repository = dict(ceph.settings(bucket, "archive"), s3_endpoint="http://127.0.0.1:%d" % store.port)
    wa = make_walagent(repository, pg, settings={"archive.tail_interval": "500ms",
                                                 "archive.spool_max": "%dMiB" % (spool // MIB)})
    wa.run("init")
    wa.expect("more than 75 %")
    wa.start()
    lab.wait_until(lambda: stream(wa).get("state") == "streaming", 30, "it streams; " + wa.log[-2000:])
    first = pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    load = Load(pg, seconds + 120, rate=15)
    largest = 0
    try:
        write_wal(pg, 1)
        durable(wa, pg)
        store.target = nowhere()
        store.hang_up()
        away = time.monotonic()
        known = number(stream(wa)["durable_lsn"])
        while time.monotonic() < away + seconds:
            time.sleep(5)
            status = wa.json("status", check=(0, 1, 3))
            largest = max(largest, status["spool"]["bytes"])
            assert status["spool"]["bytes"] <= spool
            assert restart_lsn(pg) <= number(status["stream"]["durable_lsn"])
        assert told(wa) == [25, 50, 75], wa.log[-3000:]
        assert "the spool is full" in wa.log and largest > spool * 3 // 4
        at = number(pg.lsn())
        assert at > number(stream(wa)["durable_lsn"]) + spool, "the server keeps more than the spool holds"
        store.target = address(ceph.endpoint)
        back = time.monotonic()
        positions = [known]
        while positions[-1] < at:
            assert time.monotonic() < back + 120, wa.log[-3000:]
            positions.append(number(stream(wa)["durable_lsn"]))
            assert positions[-1] >= positions[-2], "the durable position goes back"
            time.sleep(0.2)
        print("%d s without the store: %d MiB of WAL, spool at most %d MiB; caught up in %.1f s" % (
            seconds, (at - known) // MIB, largest // MIB, time.monotonic() - back))
    finally:
        load.stop()
    durable(wa, pg)
    lab.wait_until(lambda: "less than 25 %" in wa.log, 30, "that it is over is said")
    assert told(wa) == [25, 50, 75]
    assert_whole(wa, pg, ceph, bucket, first)
    assert wa.json("list")["hole_count"] == 0
