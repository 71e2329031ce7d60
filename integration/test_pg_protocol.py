"""The pg layer against real servers, through tests/tools/pg-tool.

Majors: WALAGENT_MAJORS ("15" unless given). The build tree: WALAGENT_BUILD, else build/dev.
"""
import filecmp
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import time

import pytest

import lab

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("WALAGENT_BUILD", ROOT / "build" / "dev"))
TOOL = BUILD / "tests" / "pg-tool"
MAJORS = os.environ.get("WALAGENT_MAJORS", "15").split()
AS_POSTGRES = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []


def bin_dir(major):
    """Brought in from another Debian suite if need be."""
    return pathlib.Path(lab.postgres_bin(major))


def run(*args, check=True, **kwargs):
    return subprocess.run([str(a) for a in args], check=check, text=True, capture_output=True,
                          timeout=120, env={**os.environ, "LC_ALL": "C"}, **kwargs)


class Server:
    def __init__(self, major, directory):
        self.major, self.bin = major, bin_dir(major)
        self.data, self.port = directory, lab.free_port()
        self.conninfo = f"host=127.0.0.1 port={self.port} user=postgres"

    def as_postgres(self, *args, check=True):
        return run(*AS_POSTGRES, *args, check=check, cwd="/")

    def configure(self, **settings):
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "fsync": "off",
                    "unix_socket_directories": "", "max_wal_senders": "10", "wal_keep_size": "0",
                    "log_min_messages": "info", **settings}
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as f:
            for name, value in settings.items():
                f.write(f"{name} = '{value}'\n")

    def initdb(self, *options, **settings):
        self.as_postgres(self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-k",
                         "-N", *options)
        self.configure(**settings)
        self.start()
        return self

    def standby_of(self, primary, **settings):
        self.as_postgres(self.bin / "pg_basebackup", "-D", self.data, "-X", "stream", "-c", "fast",
                         "-R", "-N", "-d", primary.conninfo)
        self.configure(**settings)
        self.start()
        return self

    def start(self):
        self.as_postgres(self.bin / "pg_ctl", "-D", self.data, "-l", f"{self.data}.log", "-w", "-s",
                         "start")

    def stop(self, mode="fast"):
        self.as_postgres(self.bin / "pg_ctl", "-D", self.data, "-m", mode, "-w", "-s", "stop",
                         check=False)

    def sql(self, *statements):
        args = [a for s in statements for a in ("-c", s)]
        return run(self.bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d",
                   self.conninfo + " dbname=postgres", *args).stdout.strip()

    def tool(self, *args, ok=True):
        result = run(TOOL, self.conninfo, *args, check=False)
        assert result.stderr == "", result.stderr
        assert (result.returncode == 0) == ok, result.stdout
        return result.stdout if not ok else facts(result.stdout)

    def wait_replay(self, lsn):
        wait_for(lambda: self.sql(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'") == "t")


def facts(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


class Stream:
    """pg-tool streaming in the background."""

    def __init__(self, server, slot, start, tli, directory):
        directory.mkdir(exist_ok=True)
        self.log = directory.parent / f"{directory.name}-{tli}.log"
        self.directory = directory
        with open(self.log, "w", encoding="utf-8") as out:
            self.process = subprocess.Popen(
                [str(TOOL), server.conninfo, "stream", slot, start, str(tli), str(directory), "0"],
                stdout=out, stderr=subprocess.STDOUT)

    def text(self):
        return self.log.read_text(encoding="utf-8")

    def received(self):
        found = re.findall(r"received=(\S+)", self.text())
        return lsn(found[-1]) if found else 0

    def wait(self):
        code = self.process.wait(timeout=60)
        return code, self.text()

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def lsn_text(value):
    return f"{value >> 32:X}/{value & 0xFFFFFFFF:X}"


def segment_start(text, size=16 << 20):
    return lsn_text(lsn(text) // size * size)


@pytest.fixture(params=MAJORS)
def make(request, tmp_path_factory):
    base = tmp_path_factory.mktemp(f"pg{request.param}")
    top = tmp_path_factory.getbasetemp().parent
    for parent in (base, base.parent, top):  # pytest keeps its folders from other users
        if parent.stat().st_uid == os.getuid() and parent != pathlib.Path("/tmp"):
            parent.chmod(0o755)
    if AS_POSTGRES:
        shutil.chown(base, "postgres")
    servers, streams = [], []

    class Make:
        directory = base

        @staticmethod
        def server(name):
            servers.append(Server(request.param, base / name))
            return servers[-1]

        @staticmethod
        def stream(*args):
            streams.append(Stream(*args))
            return streams[-1]

    yield Make
    for s in streams:
        s.kill()
    for s in servers:
        s.stop("immediate")
    shutil.rmtree(base, ignore_errors=True)


def test_identity_and_role(make):
    primary = make.server("a").initdb("--wal-segsize=1")
    seen = primary.tool("identify")
    control = facts(run(TOOL, "-", "control", primary.data).stdout)
    assert seen["system_identifier"] == control["system_identifier"]
    assert seen["major"] == primary.major == control["major"]
    assert seen["segment_size"] == str(1 << 20) == control["segment_size"]
    assert primary.tool("recovery")["in_recovery"] == "0"
    standby = make.server("b").standby_of(primary)
    for args in (("recovery",), ("recovery", "ordinary")):
        assert standby.tool(*args)["in_recovery"] == "1"
    standby.sql("SELECT pg_promote()")
    for args in (("recovery",), ("recovery", "ordinary")):
        assert standby.tool(*args)["in_recovery"] == "0"
    assert standby.tool("identify")["tli"] == "2"


def test_connection_errors_are_told_apart(make):
    primary = make.server("a").initdb()
    primary.sql("CREATE ROLE nobody LOGIN", "CREATE ROLE secret LOGIN REPLICATION PASSWORD 'geheim'")
    primary.conninfo = primary.conninfo.replace("user=postgres", "user=nobody")
    assert "error=denied" in primary.tool("identify", ok=False)
    hba = primary.data / "pg_hba.conf"
    hba.write_text("host replication secret 127.0.0.1/32 scram-sha-256\n", encoding="utf-8")
    primary.as_postgres(primary.bin / "pg_ctl", "-D", primary.data, "reload")
    primary.conninfo = f"host=127.0.0.1 port={primary.port} user=secret password=falsch"
    wait_for(lambda: "error=denied" in run(TOOL, primary.conninfo, "identify", check=False).stdout)
    answer = primary.tool("identify", ok=False)
    assert "error=denied" in answer and "falsch" not in answer
    primary.conninfo = primary.conninfo.replace("falsch", "geheim")
    assert primary.tool("identify")["tli"] == "1"
    # the first of two hosts that answers is taken
    both = f"host=127.0.0.1,127.0.0.1 port={lab.free_port()},{primary.port} user=secret password=geheim"
    assert facts(run(TOOL, both, "identify").stdout)["host"] == f"127.0.0.1:{primary.port}"
    primary.stop()
    assert "error=unavailable" in primary.tool("identify", ok=False)


def test_a_server_that_accepts_and_is_silent_is_unavailable(make):
    bin_dir(MAJORS[0])
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        conninfo = f"host=127.0.0.1 port={s.getsockname()[1]} user=x"
        answer = run(TOOL, conninfo, "identify", check=False).stdout
    assert "error=unavailable" in answer and "did not answer in time" in answer
    assert make.directory.exists()


def test_life_of_a_slot(make):
    primary = make.server("a").initdb()
    assert primary.tool("slot-read", "walagent")["exists"] == "0"
    assert primary.tool("slot-query", "walagent")["exists"] == "0"
    assert "error=not found" in primary.tool("slot-drop", "walagent", ok=False)
    primary.tool("slot-create", "walagent")
    assert "error=exists" in primary.tool("slot-create", "walagent", ok=False)
    begun = primary.tool("slot-read", "walagent")
    assert begun["exists"] == begun["physical"] == "1" and lsn(begun["restart_lsn"]) > 0
    asked = primary.tool("slot-query", "walagent")
    assert asked["restart_lsn"] == begun["restart_lsn"]
    assert (asked["wal_status"], asked["active"]) == ("reserved", "0")
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000)")
    tip = primary.sql("SELECT pg_current_wal_flush_lsn()")
    primary.tool("slot-advance", "walagent", tip)
    assert primary.tool("slot-read", "walagent")["restart_lsn"] == tip
    primary.tool("slot-advance", "walagent", begun["restart_lsn"])  # never backwards, no error
    assert primary.tool("slot-read", "walagent")["restart_lsn"] == tip
    assert "error=not found" in primary.tool("slot-advance", "other", tip, ok=False)
    assert "error=invalid" in primary.tool("slot-create", "No!", ok=False)
    primary.tool("slot-drop", "walagent")
    assert primary.tool("slot-read", "walagent")["exists"] == "0"


def test_a_slot_in_use_is_unavailable_and_a_lost_one_says_so(make):
    primary = make.server("a").initdb("--wal-segsize=1", max_slot_wal_keep_size="2MB",
                                      min_wal_size="2MB", max_wal_size="2MB")
    primary.tool("slot-create", "walagent")
    start = segment_start(primary.tool("slot-read", "walagent")["restart_lsn"], 1 << 20)
    stream = make.stream(primary, "walagent", start, 1, make.directory / "wal")
    wait_for(lambda: stream.received() > 0)
    assert primary.tool("slot-query", "walagent")["active"] == "1"
    refused = primary.tool("slot-drop", "walagent", ok=False)
    assert "error=unavailable sqlstate=55006" in refused
    stream.kill()
    wait_for(lambda: primary.tool("slot-query", "walagent")["active"] == "0")
    for _ in range(6):
        primary.sql("SELECT pg_logical_emit_message(false, 'x', repeat('y', 500000))",
                    "SELECT pg_switch_wal()", "CHECKPOINT")
    lost = primary.tool("slot-query", "walagent")
    assert lost["wal_status"] == "lost"
    if int(primary.major) >= 17:
        assert lost["invalidation_reason"] == "wal_removed"


def test_what_is_streamed_is_what_the_server_has(make):
    primary = make.server("a").initdb()
    primary.tool("slot-create", "walagent")
    start = segment_start(primary.tool("slot-read", "walagent")["restart_lsn"])
    stream = make.stream(primary, "walagent", start, 1, make.directory / "wal")
    primary.sql("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 300000) g")
    tip = primary.sql("SELECT pg_current_wal_flush_lsn()")
    wait_for(lambda: stream.received() >= lsn(tip))
    # what was reported as flushed is where the slot is; apply is never reported
    wait_for(lambda: lsn(primary.tool("slot-read", "walagent")["restart_lsn"]) >= lsn(tip))
    assert primary.sql("SELECT replay_lsn IS NULL FROM pg_stat_replication") == "t"
    stream.kill()
    names = sorted(p.name for p in stream.directory.iterdir())
    assert len(names) >= 2
    for name in names:
        ours = (stream.directory / name).read_bytes()
        theirs = (primary.data / "pg_wal" / name).read_bytes()
        assert ours == theirs[:len(ours)]


def test_walagent_can_be_the_synchronous_standby(make):
    primary = make.server("a").initdb(synchronous_standby_names="walagent")
    with open(os.devnull, "w", encoding="utf-8") as null:
        commit = subprocess.Popen(
            [primary.bin / "psql", "-Xq", "-d", primary.conninfo + " dbname=postgres", "-c",
             "CREATE TABLE t(a int)"], stdout=null, stderr=null)
    wait_for(lambda: primary.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = "
                                 "'SyncRep'") == "1")
    start = segment_start(primary.sql("SELECT pg_current_wal_flush_lsn()"))
    stream = make.stream(primary, "-", start, 1, make.directory / "wal")
    assert commit.wait(timeout=60) == 0
    assert primary.sql("SELECT sync_state FROM pg_stat_replication") == "sync"
    # nothing is applied here, so a commit that asks for it does not return
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([primary.bin / "psql", "-Xq", "-d", primary.conninfo + " dbname=postgres",
                        "-c", "SET synchronous_commit = remote_apply", "-c",
                        "CREATE TABLE u(a int)"], timeout=2, check=False, capture_output=True)
    assert stream.process.poll() is None
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")


def test_starts_that_cannot_be_are_told_apart(make):
    primary = make.server("a").initdb("--wal-segsize=1", min_wal_size="2MB", max_wal_size="2MB")
    out = make.directory / "wal"
    out.mkdir()
    begin = segment_start(primary.sql("SELECT pg_current_wal_flush_lsn()"), 1 << 20)
    ahead = primary.tool("stream", "-", "F0/0", 1, out, 0, ok=False)
    assert "error=invalid" in ahead and "ahead of the WAL flush position" in ahead
    unknown = primary.tool("stream", "-", begin, 7, out, 0, ok=False)
    assert "error=conflict" in unknown and "not in this server's history" in unknown
    missing = primary.tool("stream", "nope", begin, 1, out, 0, ok=False)
    assert "error=not found sqlstate=42704" in missing
    for _ in range(8):
        primary.sql("SELECT pg_logical_emit_message(false, 'x', repeat('y', 500000))",
                    "SELECT pg_switch_wal()", "CHECKPOINT")
    removed = primary.tool("stream", "-", begin, 1, out, 0, ok=False)
    assert "error=not found sqlstate=58P01" in removed and "already been removed" in removed
    assert "error=not found" in primary.tool("history", 1, ok=False)


def test_across_a_promotion(make):
    primary = make.server("a").initdb()
    standby = make.server("b").standby_of(primary)
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
    start = segment_start(primary.sql("SELECT pg_current_wal_flush_lsn()"))
    standby.wait_replay(primary.sql("SELECT pg_current_wal_flush_lsn()"))
    # cascading from the standby while it is promoted
    stream = make.stream(standby, "-", start, 1, make.directory / "wal")
    wait_for(lambda: stream.received() > lsn(start))
    standby.sql("SELECT pg_promote()", "INSERT INTO t SELECT generate_series(1, 1000)")
    code, text = stream.wait()
    end = facts(text)
    assert code == 0 and end["next_tli"] == "2"
    history = run(TOOL, standby.conninfo, "history", 2).stdout
    assert history == (standby.data / "pg_wal" / "00000002.history").read_text(encoding="utf-8")
    fork = history.split("\t")[1]
    assert end["next_start"] == fork and lsn(end["received"]) >= lsn(fork)
    # the old timeline again, from its exact end: the answer comes without a stream
    again = standby.tool("stream", "-", fork, 1, make.directory / "wal", 0)
    assert (again["next_tli"], again["next_start"]) == ("2", fork) and "received" in again
    # past the fork
    beyond = lsn_text((lsn(fork) // (16 << 20) + 1) * (16 << 20))
    refused = standby.tool("stream", "-", beyond, 1, make.directory / "wal", 0, ok=False)
    assert "error=conflict" in refused and "hint=" in refused
    # and on with the new one
    stream = make.stream(standby, "-", segment_start(fork), 2, make.directory / "wal2")
    tip = standby.sql("SELECT pg_current_wal_flush_lsn()")
    wait_for(lambda: stream.received() >= lsn(tip))


def test_a_stream_that_is_stopped_leaves_a_usable_connection(make):
    primary = make.server("a").initdb()
    out = make.directory / "wal"
    out.mkdir()
    start = segment_start(primary.sql("SELECT pg_current_wal_flush_lsn()"))
    assert primary.tool("stream", "-", start, 1, out, 1)["stopped"] == "1"


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_goes_away_while_streaming_is_unavailable(make, mode):
    primary = make.server("a").initdb()
    start = segment_start(primary.sql("SELECT pg_current_wal_flush_lsn()"))
    stream = make.stream(primary, "-", start, 1, make.directory / "wal")
    wait_for(lambda: stream.received() > 0)
    primary.stop(mode)
    code, text = stream.wait()
    assert code == 1 and "error=unavailable" in text
    primary.start()
    assert primary.tool("identify")["tli"] == "1"


def unpack(archives, target):
    target.mkdir(parents=True)
    with tarfile.open(archives / "base.tar") as tar:
        tar.extractall(target)
    shutil.copy(archives / "backup_manifest", target / "backup_manifest")


def crc32c(data, table=[]):  # noqa: B006 - the table is made once
    if not table:
        for i in range(256):
            for _ in range(8):
                i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
            table.append(i)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def test_a_base_backup_and_its_manifest(make):
    primary = make.server("a").initdb()
    space = make.directory / "space"
    primary.as_postgres("mkdir", space)
    primary.sql(f"CREATE TABLESPACE s LOCATION '{space}'",
                "CREATE TABLE t TABLESPACE s AS SELECT generate_series(1, 1000)")
    oid = primary.sql("SELECT oid FROM pg_tablespace WHERE spcname = 's'")
    archives = make.directory / "archives"
    archives.mkdir()
    answer = run(TOOL, primary.conninfo, "basebackup", archives).stdout
    seen = facts(answer)
    assert f"tablespace={oid} {space} " in answer
    assert f"archive={oid}.tar location={space}" in answer
    assert lsn(seen["start"]) < lsn(seen["end"]) and int(seen["progress"]) > 0
    data = make.directory / "data"
    unpack(archives, data)
    # links come in the tar (no tablespace_map); the tablespace goes where a restore would map it
    link = data / "pg_tblspc" / oid
    assert link.is_symlink() and os.readlink(link) == str(space)
    assert not (data / "tablespace_map").exists()
    link.unlink()
    link.mkdir()
    with tarfile.open(archives / f"{oid}.tar") as tar:
        tar.extractall(link)
    verify = [primary.bin / "pg_verifybackup", "-n", data]
    run(*verify)
    label = facts(run(TOOL, "-", "label", data / "backup_label").stdout)
    assert label["start"] == seen["start"] and label["start_tli"] == seen["start_tli"]

    listed = run(TOOL, "-", "manifest", data / "backup_manifest").stdout.splitlines()
    files = [line.split("\t") for line in listed if "\t" in line]
    info = facts("\n".join(line for line in listed if "\t" not in line))
    assert info["version"] == ("2" if int(primary.major) >= 17 else "1")
    assert info["range"] == f"1 {seen['start']} {seen['end']}"
    assert int(info["files"]) == len(files) > 900
    for path, size, algorithm, checksum in files:
        assert (data / path).stat().st_size == int(size), path
        if int(size) < 3000:
            assert algorithm == "CRC32C"
            expected = crc32c((data / path).read_bytes()).to_bytes(4, "little").hex()
            assert checksum == expected, path

    # PostgreSQL accepts what our writer makes of it, and it is the same to the byte
    rewritten = make.directory / "rewritten"
    run(TOOL, "-", "manifest-rewrite", data / "backup_manifest", rewritten)
    assert filecmp.cmp(rewritten, data / "backup_manifest", shallow=False)
    shutil.copy(rewritten, data / "backup_manifest")
    run(*verify)
    # and the check is one: a changed file is found
    with open(data / "PG_VERSION", "a", encoding="utf-8") as f:
        f.write("x")
    assert run(*verify, check=False).returncode == 1


@pytest.mark.parametrize("algorithm", ["NONE", "SHA224", "SHA384", "SHA512"])
def test_manifests_with_every_checksum(make, algorithm):
    primary = make.server("a").initdb()
    copy = make.directory / "copy"
    primary.as_postgres(primary.bin / "pg_basebackup", "-D", copy, "-c", "fast", "-d",
                        primary.conninfo, "--manifest-checksums", algorithm,
                        "--manifest-force-encode")
    run(TOOL, "-", "manifest-rewrite", copy / "backup_manifest", make.directory / "rewritten")
    original = (copy / "backup_manifest").read_text(encoding="ascii")
    rewritten = (make.directory / "rewritten").read_text(encoding="ascii")
    assert '"Encoded-Path"' in original and '"Encoded-Path"' not in rewritten
    shutil.copy(make.directory / "rewritten", copy / "backup_manifest")
    primary.as_postgres(primary.bin / "pg_verifybackup", copy)


def test_an_incremental_backup(make):
    primary = make.server("a")
    directory = {name: make.directory / name for name in ("full", "incremental")}
    for d in directory.values():
        d.mkdir()
    if int(primary.major) < 17:
        primary.initdb()
        answer = primary.tool("basebackup", directory["full"], "/nonexistent", ok=False)
        assert "error=unsupported" in answer
        return
    primary.initdb(summarize_wal="on")
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 100000) AS a")
    full = primary.tool("basebackup", directory["full"])
    primary.sql("UPDATE t SET a = 0 WHERE a = 5", "CHECKPOINT")
    primary.tool("basebackup", directory["incremental"], directory["full"] / "backup_manifest")
    expected = primary.sql("SELECT sum(a) FROM t")
    for name, d in directory.items():
        unpack(d, make.directory / f"data-{name}")
    increment = make.directory / "data-incremental"
    label = facts(run(TOOL, "-", "label", increment / "backup_label").stdout)
    assert (label["incremental_from"], label["incremental_from_tli"]) == (full["start"], "1")
    assert list(increment.glob("base/*/INCREMENTAL.*"))
    combined = make.directory / "combined"
    run(primary.bin / "pg_combinebackup", make.directory / "data-full", increment, "-o", combined)
    run(primary.bin / "pg_verifybackup", "-n", combined)
    # a manifest that is none is refused with the server's words
    (make.directory / "junk").write_text("junk", encoding="utf-8")
    other = make.directory / "other"
    other.mkdir()
    refused = primary.tool("basebackup", other, make.directory / "junk", ok=False)
    assert "could not upload manifest" in refused and int(expected) > 0


def test_a_corrupt_page_is_reported_with_its_file(make):
    primary = make.server("a").initdb()
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 10000) AS a", "CHECKPOINT")
    path = primary.data / primary.sql("SELECT pg_relation_filepath('t')")
    primary.stop()
    with open(path, "r+b") as f:
        f.seek(8192 + 4000)
        f.write(b"\xff" * 100)
    primary.start()
    archives = make.directory / "archives"
    archives.mkdir()
    answer = primary.tool("basebackup", archives, ok=False)
    assert "error=corrupt" in answer and "hint=" in answer and path.name in answer


STATES = {"shut down": "1", "shut down in recovery": "2", "in archive recovery": "5",
          "in production": "6", "in crash recovery": "4"}


def test_pg_control_says_what_pg_controldata_says(make):
    primary = make.server("a").initdb("--wal-segsize=64", max_connections="123",
                                      max_prepared_transactions="7", max_worker_processes="11",
                                      max_locks_per_transaction="99")
    standby = make.server("b").standby_of(primary)

    def compare(server):
        seen = facts(run(TOOL, "-", "control", server.data).stdout)
        told = {k.strip(): v.strip() for k, v in
                (line.split(":", 1) for line in
                 server.as_postgres(server.bin / "pg_controldata", server.data).stdout.splitlines())}
        names = {
            "control_version": "pg_control version number",
            "catalog_version": "Catalog version number",
            "system_identifier": "Database system identifier",
            "checkpoint": "Latest checkpoint location",
            "redo": "Latest checkpoint's REDO location",
            "tli": "Latest checkpoint's TimeLineID",
            "prev_tli": "Latest checkpoint's PrevTimeLineID",
            "min_recovery_point": "Minimum recovery ending location",
            "min_recovery_tli": "Min recovery ending loc's timeline",
            "backup_start": "Backup start location",
            "backup_end": "Backup end location",
            "max_connections": "max_connections setting",
            "max_worker_processes": "max_worker_processes setting",
            "max_wal_senders": "max_wal_senders setting",
            "max_prepared_xacts": "max_prepared_xacts setting",
            "max_locks_per_xact": "max_locks_per_xact setting",
            "block_size": "Database block size",
            "wal_block_size": "WAL block size",
            "segment_size": "Bytes per WAL segment",
            "data_checksum_version": "Data page checksum version",
        }
        for ours, theirs in names.items():
            assert seen[ours] == told[theirs], ours
        assert seen["state"] == STATES[told["Database cluster state"]]
        assert seen["major"] == server.major
        return seen

    assert compare(primary)["running"] == "1"
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000)", "CHECKPOINT")
    tip = primary.sql("SELECT pg_current_wal_flush_lsn()")
    standby.wait_replay(tip)
    standby.sql("CHECKPOINT")
    # the standby may write pg_control between the two readings: stop it for the comparison
    standby.stop()
    seen = compare(standby)
    assert lsn(seen["min_recovery_point"]) > 0 and seen["running"] == "0"
    primary.stop()
    assert compare(primary)["running"] == "0"


def test_settings_are_read_back_by_the_server(make):
    primary = make.server("a").initdb()
    values = ["plain", "it's", "back\\slash", "\\n \\101", "# no comment", "", " spaced ", "ümlaut",
              "a=b;c", '"quoted"', "%p %f", "'"]
    primary.sql("ALTER SYSTEM SET work_mem = '5MB'", "ALTER SYSTEM SET restore_command = 'old'")
    pairs = []
    for i, value in enumerate(values):
        pairs += [f"test.v{i}", value]
    pairs += ["restore_command", "walagent -c '/a b/c' archive-get %f \"%p\""]
    for _ in range(2):  # the second time replaces the first
        run(*AS_POSTGRES, TOOL, "-", "settings", primary.data, *pairs)
    assert primary.sql("SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL") == "0"
    assert primary.sql("SELECT count(*) FROM pg_file_settings WHERE name = 'restore_command'") == "1"
    primary.sql("SELECT pg_reload_conf()")
    wait_for(lambda: primary.sql("SHOW restore_command") == pairs[-1])
    assert primary.sql("SHOW work_mem") == "5MB"
    for i, value in enumerate(values):
        assert primary.sql(f"SELECT '<' || current_setting('test.v{i}') || '>'") == f"<{value}>"
