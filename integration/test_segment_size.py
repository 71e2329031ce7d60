"""WAL segments of 1 GiB, the largest that initdb makes: nothing counts in 16 MiB, and what holds a
whole one in memory (archive-push and a restore do) gets it. (Many tests use 1 MiB, the smallest.)"""
import os

import lab
from test_backup import backup, durable, follow
from test_main_job import promoted

SEGMENT = 1 << 30


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
