"""walagent log: what happened when. pg_waldump lists what the servers' own pg_wal holds; a ledger
knows its commit times; what a printed command restores is looked at."""
import datetime
import glob
import json
import os
import re
import shlex
import shutil

import pytest

import lab
from test_restore import lsn_number, when

MIB = 1024 * 1024


class Segments:
    """WAL files as the server wrote them, kept before it recycles them, and what pg_waldump says."""

    END = re.compile(r"^rmgr: Transaction .* tx: +(\d+), lsn: ([0-9A-F/]+), prev [0-9A-F/]+, desc: "
                     r"(COMMIT|ABORT|COMMIT_PREPARED|ABORT_PREPARED) (?:\d+: |'[^']*' )?"
                     r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC")

    def __init__(self, pg, directory):
        self.pg = pg
        self.dir = lab.make_dir(directory)

    def keep(self):
        for path in glob.glob(os.path.join(self.pg.data, "pg_wal", "0*")):
            if len(os.path.basename(path)) == 24:
                shutil.copy(path, self.dir)
                lab.own(os.path.join(self.dir, os.path.basename(path)))

    def dump(self, start, timeline=1):
        """All records from there on, as lines."""
        return self.pg.tool("pg_waldump", "-p", self.dir, "-s", start, "-t", timeline,
                            check=None).stdout.splitlines()

    def ends(self, start, stop=None, timeline=1):
        """(lsn, xid, time, commits) of all transaction ends of [start, stop)."""
        found = []
        for line in self.dump(start, timeline):
            m = self.END.match(line)
            if m and (stop is None or lsn_number("0" + m.group(2)) < stop):
                found.append((lsn_number(m.group(2)), int(m.group(1)),
                              when(m.group(4) + "+00:00"), m.group(3).startswith("COMMIT")))
        return found


def rfc(text):
    return when(text.replace("Z", "+00:00")) if text else None


def covered_end(wa):
    lineage = wa.json("lineage")
    return max(lsn_number(b["end_lsn"]) for b in lineage["branches"] if b["end_lsn"])


def durable(wa, pg):
    target = lsn_number(pg.lsn())
    lab.wait_until(lambda: covered_end(wa) >= target, 30,
                   "the archive reaches %s: %s" % (pg.lsn(), wa.log[-2000:]))


class Ledger:
    """A server with small segments, its archive (by an agent, or by archive_command) and a ledger
    of commits."""

    def __init__(self, pg, wa, work_dir, agent):
        self.pg, self.wa, self.agent = pg, wa, agent
        self.segments = Segments(pg, work_dir + "/segments")
        self.rows = []

    def commit(self, count, size=3000):
        for _ in range(count):
            with self.pg.connect() as connection, connection.cursor() as cursor:
                # not compressible
                cursor.execute("INSERT INTO ledger (note) SELECT string_agg(md5(random()::text), '')"
                               " FROM generate_series(1, %s / 32) "
                               "RETURNING pg_current_xact_id()::text", (size,))
                xid = int(cursor.fetchone()[0])
                cursor.execute("SELECT pg_xact_commit_timestamp(%s::text::xid)::text", (xid,))
                self.rows.append((xid, when(cursor.fetchone()[0])))

    def settle(self):
        self.segments.keep()
        if self.agent:
            durable(self.wa, self.pg)
            return
        name = self.pg.switch_wal()
        self.segments.keep()
        lab.wait_until(lambda: (self.pg.value("SELECT last_archived_wal FROM pg_stat_archiver")
                                or "") >= name, 30, "archived: " + self.pg.log[-2000:])


@pytest.fixture(params=["agent", "archive_command"])
def ledger(request, major, make_pg, make_walagent, file_repository, work_dir):
    pg = make_pg(major, start=False, wal_segsize=1)
    wa = make_walagent(file_repository, pg, settings={"archive.tail_interval": "200ms"})
    agent = request.param == "agent"
    pg.configure(track_commit_timestamp="on", wal_keep_size="256MB", max_prepared_transactions=5,
                 autovacuum="off")
    if not agent:
        pg.configure(archive_mode="on", archive_command="'%s' archive-push -c '%s' %%p" % (
            wa.command()[0], wa.config_path))
    pg.start()
    wa.run("init")
    if agent:
        wa.start()
    made = Ledger(pg, wa, work_dir, agent)
    pg.sql("CREATE TABLE ledger (n serial, note text)")
    return made


def first_segment_start(ledger):
    """Where the archive begins, as an LSN."""
    done = ledger.wa.json("list")
    root = ledger.wa.sections["repository"]["url"][len("file://"):]
    names = sorted(os.path.basename(p) for p in glob.glob(root + "/**/wal/**/*.zst", recursive=True))
    assert names, done
    name = names[0][:24]
    at = int(name[8:16], 16) * 4096 * MIB + int(name[16:24], 16) * MIB
    return "%X/%X" % (at >> 32, at & 0xFFFFFFFF)


def test_counts_and_neighbours_are_those_that_pg_waldump_finds(ledger):
    pg, wa = ledger.pg, ledger.wa
    ledger.commit(40, 60000)
    with pg.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO ledger (note) VALUES ('never')")
        connection.rollback()
    pg.sql("BEGIN; INSERT INTO ledger (note) VALUES ('later'); PREPARE TRANSACTION 'p'")
    pg.sql("SELECT pg_create_restore_point('noon')")
    ledger.commit(10)
    pg.sql("COMMIT PREPARED 'p'")
    pg.sql("CHECKPOINT")
    pg.switch_wal()
    ledger.commit(30, 50000)
    ledger.settle()
    start = first_segment_start(ledger)
    ends = ledger.segments.ends(start, covered_end(wa))
    assert len(ends) >= 80 and any(not e[3] for e in ends)

    found = wa.json("log")
    assert found["commits"] == sum(e[3] for e in ends)
    assert found["aborts"] == sum(not e[3] for e in ends)
    assert rfc(found["first"]) == min(e[2] for e in ends)
    assert rfc(found["last"]) == max(e[2] for e in ends)
    for interval in found["intervals"]:
        low, high = rfc(interval["from"]), rfc(interval["to"])
        inside = [e for e in ends if low <= e[2] < high]
        assert interval["commits"] == sum(e[3] for e in inside)
        assert interval["aborts"] == sum(not e[3] for e in inside)
        for e in inside:
            assert lsn_number(interval["begin_lsn"]) <= e[0] < lsn_number(interval["end_lsn"])
    kinds = {m["kind"]: m for m in found["moments"]}
    assert kinds["restore point"]["text"] == "noon" and "checkpoint" in kinds and "switch" in kinds
    assert "hole" not in kinds and "damage" not in kinds
    switches = [line for line in ledger.segments.dump(start) if " desc: SWITCH" in line]
    assert len([m for m in found["moments"] if m["kind"] == "switch"]) == len(switches)

    mine = {xid for xid, _ in ledger.rows}
    for xid, time in ledger.rows[5::17]:
        part = wa.json("log", "--from", time.isoformat(), "--to", time.isoformat())
        assert part["commits"] == sum(e[3] for e in ends if e[2] == time) >= 1
        at = next(i for i, e in enumerate(ends) if e[2] >= time)
        listed = wa.json("log", "--around", time.isoformat(), "--count", 4)
        assert listed["damage"] == []
        assert [(lsn_number(t["lsn"]), rfc(t["time"]), t["kind"] == "commit")
                for t in listed["transactions"]] == \
            [(e[0], e[2], e[3]) for e in ends[max(at - 4, 0):at + 4]]
        assert xid in [t["xid"] for t in listed["transactions"]]
    table = "1663/%s/%s" % pg.sql("SELECT oid, pg_relation_filenode('ledger') FROM pg_database "
                                  "WHERE datname = 'postgres'")[0]
    listed = wa.json("log", "--around", ledger.rows[20][1].isoformat(), "--count", 10)
    for t in listed["transactions"]:
        if t["xid"] in mine:
            assert table in t["relations"]
    text = wa.run("log", "--lsn").stdout
    assert "#" in text and "noon" in text and "restore point" in text


def test_what_was_dropped_comes_back_by_the_printed_command(ledger, make_pg, work_dir):
    pg, wa = ledger.pg, ledger.wa
    lab.own(work_dir)
    wa.run("backup") if ledger.agent else wa.start().run("backup")
    pg.sql("CREATE DATABASE other")
    pg.sql("CREATE TABLE far AS SELECT generate_series(1, 50) AS i", dbname="other")
    pg.sql("CREATE TABLE a AS SELECT generate_series(1, 100) AS i")
    pg.sql("CREATE TABLE b AS SELECT generate_series(1, 200) AS i")
    ledger.commit(3)
    before = pg.sql("SELECT (SELECT oid FROM pg_database WHERE datname = 'other'), "
                    "pg_relation_filenode('a'), pg_relation_filenode('b')")[0]
    pg.sql("DROP TABLE a")
    ledger.commit(3)
    pg.sql("TRUNCATE b")
    ledger.commit(3)
    pg.sql("DROP DATABASE other")
    ledger.commit(3)
    durable(wa, pg)
    found = wa.json("log", "--find-drop")
    assert found["damage"] == []
    drops = found["transactions"]
    dropped = {"a": [d for d in drops if any(f.endswith("/%d" % before[1]) for f in d["dropped"])],
               "b": [d for d in drops if any(f.endswith("/%d" % before[2]) for f in d["dropped"])],
               "other": [d for d in drops if d.get("dropped_database") == before[0]]}
    assert {k: len(v) for k, v in dropped.items()} == {"a": 1, "b": 1, "other": 1}, drops
    text = wa.run("log", "--find-drop", "-c", wa.config_path).stdout
    for i, (name, (drop,)) in enumerate(dropped.items()):
        line = next(l for l in text.splitlines() if "--to-lsn %s " % drop["restore_lsn"] in l)
        copy = lab.Postgres("%s/copy%d" % (work_dir, i), pg.major)
        argv = shlex.split(line.partition("the moment before: walagent ")[2])
        assert argv[0] == "restore"
        wa.run(*[copy.data if word == "DIRECTORY" else word for word in argv])
        make_pg.adopt(copy)
        copy.start()
        lab.wait_until(lambda: not copy.value("SELECT pg_is_in_recovery()"), 30, "recovery ends")
        if name == "other":
            assert copy.value("SELECT count(*) FROM far", dbname="other") == 50
            assert copy.value("SELECT count(*) FROM ledger") == 9
        else:
            assert copy.value("SELECT count(*) FROM %s" % name) == (100 if name == "a" else 200)
            assert copy.value("SELECT count(*) FROM ledger") == (3 if name == "a" else 6)
        copy.stop()
    wa.run("log", "--find-drop", "--around", "-1h", check=2)
    wa.run("log", "--from", "-1h", "--to", "-2h", check=2)


def flip(path):
    with open(path, "r+b") as f:
        f.seek(os.path.getsize(path) // 3)
        byte = f.read(1)[0]
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte ^ 0x10]))


@pytest.mark.parametrize("how", ["missing", "damaged", "half of each"])
def test_without_the_index_the_answers_are_the_same(make_pg, make_walagent, file_repository, how):
    pg = make_pg(wal_segsize=1, autovacuum="off", checkpoint_timeout="1h")
    wa = make_walagent(file_repository, pg, settings={"archive.tail_interval": "200ms"})
    wa.run("init")
    wa.start()
    wa.run("backup")
    pg.sql("CREATE TABLE ledger (n serial, note text)")
    for i in range(40):
        pg.sql("INSERT INTO ledger (note) SELECT repeat('x', 100) FROM generate_series(1, 5000)")
    durable(wa, pg)
    root = file_repository["url"][len("file://"):]

    def indexed():
        return sorted(glob.glob(root + "/**/index/**/*.zst", recursive=True))
    lab.wait_until(lambda: len(indexed()) >= 2, 30, "segments are indexed")
    wa.stop()
    pg.stop()
    index = indexed()

    whole = wa.json("log")
    low, high = rfc(whole["first"]), rfc(whole["last"])
    middle = (low + (high - low) / 2).isoformat()

    def ask():
        return (wa.json("log"), wa.json("log", "--from", middle), wa.json("lineage"),
                wa.json("log", "--around", middle), wa.json("list"),
                wa.run("log", "--find-drop").stdout)
    before = ask()
    for i, path in enumerate(index):
        if how == "missing" or (how == "half of each" and i % 2 == 0):
            os.unlink(path)
            if os.path.exists(path + ".meta"):
                os.unlink(path + ".meta")
        else:
            flip(path)
    assert ask() == before


@pytest.mark.parametrize("ledger", ["agent"], indirect=True)
def test_damage_is_named_and_the_rest_is_listed(ledger):
    pg, wa = ledger.pg, ledger.wa
    ledger.commit(60, 60000)
    pg.sql("DROP TABLE ledger")
    ledger.settle()
    lab.wait_until(lambda: len(wal_objects(wa)) >= 4, 30, "whole segments")
    whole = wal_objects(wa)
    wa.stop()
    name = os.path.basename(whole[2])[:24]
    flip(whole[2])
    for chunks in glob.glob(os.path.dirname(whole[2]) + "/../../../tail/*/" + name):
        shutil.rmtree(chunks)  # else they make up for it
    done = wa.run("log", "--find-drop", "--json", check=3)
    assert "could not be read" in done.stderr
    found = json.loads(done.stdout)
    assert [d["text"] for d in found["damage"] if name in d["text"]], found
    assert len(found["damage"]) == 1 and len(found["transactions"]) == 1


def wal_objects(wa):
    root = wa.sections["repository"]["url"][len("file://"):]
    return sorted(glob.glob(root + "/**/wal/**/*.zst", recursive=True))
