"""WAL segments of 1 GiB, the largest that initdb makes: nothing counts in 16 MiB, and what holds a
whole one in memory (archive-push and a restore do) gets it. (Many tests use 1 MiB, the smallest.)"""
import json
import os
import shutil

import lab
from test_backup import backup, durable, follow, is_ready, number
from test_hooks import keys
from test_main_job import promoted

SEGMENT = 1 << 30
CHUNK = 16 << 20  # the most that a tail chunk has of new WAL


def test_segments_of_a_gibibyte_are_streamed_pushed_and_restored(make_pg, make_walagent,
                                                                 file_repository, work_dir):
    pg = make_pg(wal_segsize=1024, start=False)
    wa = make_walagent(file_repository, pg)
    push = "%s archive-push -c %s %%p" % (wa.command()[0], wa.config_path)
    pg.configure(archive_mode="on", archive_command=push, min_wal_size="2GB", max_wal_size="4GB")
    pg.start()
    assert wa.json("init")["segment_size"] == SEGMENT
    follow(wa)
    info = backup(wa)
    pg.sql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 200000) AS i")
    before = pg.value("SELECT clock_timestamp()::text")
    pg.sql("SELECT pg_sleep(0.01)")
    pg.sql("DROP TABLE t")
    durable(wa, pg)  # the tail, deep inside a segment
    copies = {name: lab.Postgres(os.path.join(work_dir, name), pg.major)
              for name in ("tail", "whole")}
    wa.run("restore", "-D", copies["tail"].data, "--to-time", before, timeout=300)
    segment = pg.switch_wal()
    lab.wait_until(lambda: (pg.value("SELECT last_archived_wal FROM pg_stat_archiver") or "")
                   >= segment, 120, "archive_command has archived %s" % segment)
    durable(wa, pg)
    assert pg.value("SELECT failed_count FROM pg_stat_archiver") == 0
    wa.run("restore", "-D", copies["whole"].data, "--to-time", before, "--backup", info["label"],
           timeout=300)
    for copy in copies.values():
        make_pg.adopt(copy)
        promoted(copy.start(timeout=300))
        assert copy.value("SELECT count(*) FROM t") == 200000
        copy.stop()
    assert wa.json("verify")["damage"] == []


def chunks(wa):
    """(start, end, base) of the tail chunks, by start."""
    found = []
    for key in keys(wa, "tail"):
        with open(key + ".meta", encoding="ascii") as f:
            facts = json.load(f)
        found.append(tuple(int(facts[name], 16) for name in ("start", "end", "base")))
    return sorted(found)


def test_what_gathers_of_a_large_segment_goes_into_chunks_of_bounded_size(make_pg, make_walagent,
                                                                          file_repository, work_dir):
    pg = make_pg(wal_segsize=64, wal_keep_size="1GB", max_wal_size="2GB", autovacuum="off")
    wa = make_walagent(file_repository, pg)
    wa.expect("WARNING: the repository can't be written")
    follow(wa)
    backup(wa)
    pg.switch_wal()
    pg.sql("CREATE TABLE t (x text)")
    durable(wa, pg)
    root = file_repository["url"][len("file://"):]
    shutil.move(root, root + ".away")
    pg.sql("INSERT INTO t SELECT repeat(md5(i::text), 30) FROM generate_series(1, 40000) AS i")
    # all of it waits in the spool
    lab.wait_until(lambda: number(wa.json("status")["stream"]["received_lsn"]) >= number(pg.lsn()), 60,
                   "it was received")
    shutil.move(root + ".away", root)
    durable(wa, pg)
    found = [c for c in chunks(wa) if c[0] != c[1]]
    assert all(end - start <= CHUNK for start, end, _ in found), found
    assert len([c for c in found if c[1] - c[0] == CHUNK]) >= 2, found
    before = pg.value("SELECT clock_timestamp()::text")
    copy = lab.Postgres(os.path.join(work_dir, "tail"), pg.major)
    pg.sql("DROP TABLE t")
    durable(wa, pg)
    wa.run("restore", "-D", copy.data, "--to-time", before)
    make_pg.adopt(copy)
    promoted(copy.start())
    assert copy.value("SELECT count(*) FROM t") == 40000
    window = wa.json("list")["windows"][-1]  # it is the last transaction's, of a chunk's records
    assert window["end_time"] >= before.replace(" ", "T")[:19], (window, before)
    wa.stop()
    wa.start(ready=False)
    lab.wait_until(lambda: is_ready(wa), 30, "the agent streams")
    pg.sql("CREATE TABLE u AS SELECT 1 AS x")
    durable(wa, pg)
    start, end, _ = chunks(wa)[-1]
    assert end - start <= CHUNK and wa.json("verify")["damage"] == []
