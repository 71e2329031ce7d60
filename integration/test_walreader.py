"""The WAL reader against pg_waldump and the server, for every major in WALAGENT_MAJORS.

A server makes WAL of every kind that we can provoke: in 1 MiB segments, with records longer than a
segment, prepared transactions, subtransactions, dropped relations, switches, a crash inside a record
(overwrite contrecord), a promotion. Then our reader (tests/tools/wal-dump.c) and pg_waldump read the
same files, and every line must be the same.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from datetime import datetime, timedelta, timezone

import pytest

import lab

SEGMENT = 1 << 20
PAGE = 8192
SETTINGS = {"wal_level": "logical", "track_commit_timestamp": "on", "fsync": "off",
            "max_prepared_transactions": 10, "wal_keep_size": "4GB", "max_wal_size": "4GB",
            "min_wal_size": "10MB", "wal_compression": "on", "autovacuum": "off"}


def sql(server, text):
    """A script, statement by statement; what it returned."""
    done = server.psql("-Atq", "-d", "postgres", "-f", "-", stdin_text=text, timeout=300)
    return done.stdout.strip()


def copy_wal(server, tli, to):
    """The segments of a timeline, in order."""
    to = pathlib.Path(lab.make_dir(str(to)))
    for path in pathlib.Path(server.data, "pg_wal").glob(f"{tli:08X}" + "[0-9A-F]" * 16):
        shutil.copy(path, to / path.name)
        (to / path.name).chmod(0o644)
    return sorted(to.iterdir())


DDL = """
CREATE TABLE t{n} (id serial PRIMARY KEY, a int, b text, c int[], p point, d tsrange);
CREATE UNLOGGED TABLE u{n} (id int);
INSERT INTO t{n} (a, b, c, p, d) SELECT i, repeat(md5(i::text), 1 + i % 9), ARRAY[i, i % 7],
    point(i, i % 31), tsrange(now()::timestamp, now()::timestamp + interval '1 s' * i)
    FROM generate_series(1, 3000) i;
CREATE INDEX ON t{n} USING gin (c);
CREATE INDEX ON t{n} USING gist (p);
CREATE INDEX ON t{n} USING hash (a);
CREATE INDEX ON t{n} USING brin (a);
CREATE INDEX ON t{n} USING spgist (b);
UPDATE t{n} SET a = a + 1 WHERE id % 3 = 0;
DELETE FROM t{n} WHERE id % 5 = 0;
VACUUM (FREEZE) t{n};
ALTER TABLE t{n} ADD COLUMN e text DEFAULT 'x';
CREATE TABLE big{n} (b bytea);
ALTER TABLE big{n} ALTER b SET STORAGE EXTERNAL;
INSERT INTO big{n} SELECT decode(string_agg(md5(random()::text), ''), 'hex')
    FROM generate_series(1, 100000);
SELECT pg_logical_emit_message(true, 'long', string_agg(md5(random()::text), ''))
    IS NOT NULL FROM generate_series(1, 90000);
BEGIN; INSERT INTO t{n} (a) VALUES (1); SAVEPOINT s; INSERT INTO t{n} (a) VALUES (2);
SAVEPOINT s2; INSERT INTO t{n} (a) VALUES (3); ROLLBACK TO s2; COMMIT;
BEGIN; INSERT INTO t{n} (a) VALUES (4); ROLLBACK;
BEGIN; CREATE TABLE gone{n} AS SELECT 1; ROLLBACK;
BEGIN; CREATE TABLE p{n} (i int); SAVEPOINT a; INSERT INTO p{n} VALUES (1);
TRUNCATE big{n}; PREPARE TRANSACTION 'commits{n}';
COMMIT PREPARED 'commits{n}';
BEGIN; CREATE TABLE q{n} (i serial, t text); INSERT INTO q{n} DEFAULT VALUES;
PREPARE TRANSACTION 'aborts{n}';
ROLLBACK PREPARED 'aborts{n}';
BEGIN; TRUNCATE t{n}; DROP TABLE big{n}; DROP TABLE p{n}; COMMIT;
SELECT pg_create_restore_point('point-{n}') IS NOT NULL;
DO $$ BEGIN FOR i IN 1..45 LOOP
    EXECUTE format('CREATE TABLE many{n}_%s (i int PRIMARY KEY, t text)', i); END LOOP; END $$;
DO $$ BEGIN FOR i IN 1..45 LOOP
    EXECUTE format('DROP TABLE many{n}_%s', i); END LOOP; END $$;
DO $$ BEGIN FOR i IN 1..400 LOOP
    BEGIN INSERT INTO t{n} (a) VALUES (i); EXCEPTION WHEN others THEN NULL; END; END LOOP; END $$;
SELECT pg_replication_origin_create('origin{n}') > 0;
SELECT pg_replication_origin_session_setup('origin{n}');
BEGIN; SELECT pg_replication_origin_xact_setup('0/1234', '2020-01-02 03:04:05+00');
INSERT INTO t{n} (a) VALUES (7); COMMIT;
SELECT pg_replication_origin_session_reset();
SELECT pg_switch_wal() IS NOT NULL;
CHECKPOINT;
CREATE SEQUENCE s{n}; SELECT count(nextval('s{n}')) FROM generate_series(1, 200);
NOTIFY x, 'y';
"""


def load(server, n):
    sql(server, DDL.format(n=n))
    sql(server, f"CREATE DATABASE d{n}")
    sql(server, f"DROP DATABASE d{n}")
    server.pgbench("-i", "-s", "1", "-q")
    server.pgbench("-t", "200", "-c", "4")
    if server.major >= 15:
        for method in ("lz4", "zstd", "pglz"):
            sql(server, f"SET wal_compression = {method}; CHECKPOINT; "
                       "UPDATE pgbench_accounts SET abalance = 1 WHERE aid % 50 = 0;")
    sql(server, "SELECT pg_create_restore_point('after-" + str(n) + "') IS NOT NULL")


def to_lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def lose_the_end_of_a_record(server):
    """Crash, and tear the WAL inside a long record: what a lost page leaves. Returns its place."""
    end = to_lsn(sql(server, "CHECKPOINT; SELECT pg_logical_emit_message(false, 'torn', "
                            "string_agg(md5(random()::text), '')) FROM generate_series(1, 9000)"))
    sql(server, "INSERT INTO t1 (a) VALUES (0)")  # flushes it
    server.stop("immediate")
    cut = (end - 100000) // PAGE * PAGE
    wal = pathlib.Path(server.data, "pg_wal")
    for path in wal.glob("0" * 7 + "1" + "[0-9A-F]" * 16):
        start = (int(path.name[8:16], 16) * 4096 + int(path.name[16:], 16)) * SEGMENT
        if start + SEGMENT <= cut:
            continue
        with open(path, "r+b") as file:
            file.seek(max(0, cut - start))
            file.write(bytes(SEGMENT - max(0, cut - start)))
    server.start()
    return cut


class Made:
    """What a server made, and what it says about it."""


@pytest.fixture(scope="module")
def made(major, session_dir):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="walreader", dir=session_dir))
    directory.chmod(0o755)
    server = lab.Postgres(str(directory / "server"), major)
    result = Made()
    result.server = server
    try:
        server.init(wal_segsize=1).configure(**SETTINGS)
        server.start()
        load(server, 1)
        result.cut = lose_the_end_of_a_record(server)
        load(server, 2)
        server.stop()
        result.old = copy_wal(server, 1, directory / "old")
        lab.write_file(os.path.join(server.data, "standby.signal"), "")
        server.start()
        server.promote()
        load(server, 3)
        result.commit_times = sql(server,
            "SELECT xid, extract(epoch FROM timestamp) * 1000000 FROM (SELECT i::text::xid AS xid,"
            " pg_xact_commit_timestamp(i::text::xid) AS timestamp FROM generate_series(1000,"
            " (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1)) i) x"
            " WHERE timestamp IS NOT NULL")
        result.system = sql(server, "SELECT system_identifier FROM pg_control_system()")
        server.stop()
        result.new = copy_wal(server, 2, directory / "new")
        yield result
    finally:
        server.stop("immediate")
        shutil.rmtree(directory)


def wal_dump(*command):
    program = os.path.join(lab.BUILD, "tests", "wal-dump")
    done = subprocess.run([program, *map(str, command)], text=True, capture_output=True,
                          timeout=600, env=dict(os.environ, TZ="UTC"))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def pg_waldump(made, files):
    """Its lines; it ends with an error where the WAL ends, so that the status says nothing."""
    done = made.server.tool("pg_waldump", "-p", files[0].parent, files[0].name, files[-1].name,
                            check=None, timeout=300)
    lines = [line for line in done.stdout.splitlines() if line.startswith("rmgr:")]
    assert lines, done.stderr
    return lines


RECORD = re.compile(r"rmgr: (\S+) +len \(rec/tot\): +\d+/ *(\d+), tx: +(\d+), "
                    r"lsn: (\S+), prev (\S+), desc: (.*)")
BLOCK = re.compile(r"blkref #(\d+): rel (\d+/\d+/\d+) (?:fork (\w+) )?blk (\d+)( FPW)?")
FORKS = {"": "0", "main": "0", "fsm": "1", "vm": "2", "init": "3"}


def parsed(lines):
    for line in lines:
        match = RECORD.match(line)
        assert match, line
        yield match.groups()


@pytest.fixture(params=["old", "new"])
def files(request, made):
    return getattr(made, request.param)


def test_records_are_those_of_pg_waldump(made, files):
    theirs = [f"{rmgr} tot {tot} tx {xid} lsn {lsn} prev {prev}"
              for rmgr, tot, xid, lsn, prev, _ in parsed(pg_waldump(made, files))]
    ours = wal_dump("records", *files)
    assert len(ours) > 5000
    assert ours == theirs


def test_block_references_are_those_of_pg_waldump(made, files):
    theirs = []
    for *_, lsn, _prev, desc in parsed(pg_waldump(made, files)):
        high, low = lsn.split("/")
        for ref, rel, fork, block, image in BLOCK.findall(desc):
            theirs.append(f"lsn {high}/{int(low, 16):X} ref {ref} rel {rel} fork {FORKS[fork]} "
                          f"blk {block}{image}")
    assert len(theirs) > 5000
    assert wal_dump("blocks", *files) == theirs


def relation(path):
    parts = path.split("/")
    return f"1664/0/{parts[1]}" if parts[0] == "global" else f"1663/{parts[1]}/{parts[2]}"


def expected_xact(xid, lsn, desc):
    """Our line for a Transaction record of pg_waldump, or None."""
    match = re.match(r"(COMMIT|ABORT)(_PREPARED)? (?:(\d+): )?(\S+ \S+) UTC", desc)
    if not match:
        return None
    kind, prepared, prepared_xid, time = match.groups()
    if "." in time:
        time = time.rstrip("0").rstrip(".")
    rels = re.search(r"; rels:((?: [\w/]+)*)", desc)
    dropped = [relation(path) for path in (rels.group(1).split() if rels else [])]
    high, low = lsn.split("/")
    line = (f"{kind}{prepared or ''} lsn {high}/{int(low, 16):X} xid {prepared_xid or xid} "
            f"time {time}+00 dropped {len(dropped)}")
    return " ".join([line, *dropped[:32]])


def test_transaction_ends_are_those_of_pg_waldump(made, files):
    theirs = [line for rmgr, _, xid, lsn, _, desc in parsed(pg_waldump(made, files))
              if rmgr == "Transaction" and (line := expected_xact(xid, lsn, desc))]
    ours = wal_dump("xacts", *files)
    assert ours == theirs
    for kind in ("COMMIT ", "ABORT ", "COMMIT_PREPARED ", "ABORT_PREPARED "):
        assert any(line.startswith(kind) for line in ours), kind
    assert any(int(line.split("dropped ")[1].split()[0]) > 32 for line in ours)


def test_commit_times_are_those_of_the_server(made):
    ours = {}
    for line in wal_dump("xacts", *made.old) + wal_dump("xacts", *made.new):
        match = re.match(r"COMMIT(?:_PREPARED)? .* xid (\d+) time (\S+ \S+)\+00", line)
        if match:
            time = match.group(2) if "." in match.group(2) else match.group(2) + ".0"
            ours[match.group(1)] = (datetime.strptime(time, "%Y-%m-%d %H:%M:%S.%f")
                                    .replace(tzinfo=timezone.utc))
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    compared = 0
    for line in made.commit_times.splitlines():
        xid, microseconds = line.split("|")
        if xid not in ours:  # a subtransaction: it has its parent's time and no record
            continue
        origin = epoch + timedelta(microseconds=float(microseconds))
        if origin.year == 2020:  # the time of the replication origin, which our reader leaves alone
            continue
        assert ours[xid] == epoch + timedelta(microseconds=int(float(microseconds)))
        compared += 1
    assert compared > 500


def test_facts_count_what_pg_waldump_shows(made, files):
    facts = json.loads("\n".join(wal_dump("facts", *files)))
    records = list(parsed(pg_waldump(made, files)))
    names = [desc.split()[0] for rmgr, *_, desc in records if rmgr == "Transaction"]
    points = [re.match(r"RESTORE_POINT (\S+)", desc).group(1) for rmgr, *_, desc in records
              if rmgr == "XLOG" and desc.startswith("RESTORE_POINT")]
    checkpoints = [lsn for rmgr, _, _, lsn, _, desc in records
                   if rmgr == "XLOG" and re.match("CHECKPOINT_(SHUTDOWN|ONLINE)", desc)]
    assert facts["records"] == len(records)
    assert facts["commits"] == sum(name.startswith("COMMIT") for name in names)
    assert facts["aborts"] == sum(name.startswith("ABORT") for name in names)
    assert [point["name"] for point in facts["restore_points"]] == points
    assert [to_lsn(c["lsn"]) for c in facts["checkpoints"]] == [to_lsn(c) for c in checkpoints]
    assert to_lsn(facts["last_record"]) == to_lsn(records[-1][3])


def test_whole_segments_are_complete_and_the_last_is_not(made, files):
    checks = wal_dump("check", *files)
    kinds = [line.split()[0] for line in checks]
    last = kinds.index("incomplete") if "incomplete" in kinds else len(kinds)
    assert last > 10
    assert kinds[:last] == ["complete"] * last
    for line in checks[:last]:
        assert f"system {made.system}" in line
    # Behind it there is only what was recycled or prepared.
    assert all(kind == "incomplete" for kind in kinds[last:])


def test_the_torn_record_was_overwritten(made):
    """The scenario happened: our reader went through it in the tests above."""
    if made.server.major < 14 and "OVERWRITE" not in "\n".join(pg_waldump(made, made.old)):
        pytest.skip("an old minor version that does not write it")
    lines = [groups for groups in parsed(pg_waldump(made, made.old))
             if groups[5].startswith("OVERWRITE_CONTRECORD")]
    assert len(lines) == 1
    assert to_lsn(lines[0][3]) // PAGE * PAGE == made.cut


def test_no_mutation_of_a_real_segment_passes_unnoticed(made):
    candidates = []
    for path, line in zip(made.old, wal_dump("check", *made.old)):
        match = re.match(r"complete .* first (\S+) last (\S+) ", line)
        if not match or match.group(1) == match.group(2):  # inside one long record
            continue
        if to_lsn(match.group(2)) // SEGMENT == made.cut // SEGMENT:
            continue  # the torn record's given-up part is checked by nothing
        candidates.append(path)
    assert len(candidates) > 10
    for seed, path in enumerate(candidates[:: len(candidates) // 3]):
        assert wal_dump("mutate", seed, 400, path) == ["0 unnoticed"]
