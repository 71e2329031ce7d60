"""restore --delta of a large table of which little has changed, from a directory and from S3."""
import json
import os
import subprocess

import pytest

import lab

ROWS = 600000
BLOCK = 4 << 20  # of a pack's frames
TABLES = ("large", "grown", "cut", "pgbench_accounts", "pgbench_history")


def content(server):
    return {table: server.value("SELECT count(*)::text || md5(string_agg(x::text, '' ORDER BY x::text)) "
                                "FROM %s x" % table) for table in TABLES}


def arrived(wa, pg):
    """Everything up to now is in the archive."""
    target = lab_lsn(pg.lsn())
    lab.wait_until(lambda: any(lab_lsn(w["end_lsn"]) >= target for w in wa.json("list")["windows"]),
                   60, "the archive reaches the server's end")


def lab_lsn(text):
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def delta(wa, directory, *options):
    done = wa.run("restore", "-D", directory, "--delta", "--json", *options)
    return json.loads(done.stdout)


@pytest.mark.parametrize("store", ["file", "s3"])
def test_only_blocks_that_differ_are_fetched_and_the_server_is_right(
        request, make_pg, make_walagent, work_dir, store):
    pg = make_pg(15)
    wa = make_walagent(request.getfixturevalue(store + "_repository"), pg)
    wa.run("init")
    wa.start()
    pg.pgbench("-i", "-s", "1", "-q")
    for table in ("large", "grown", "cut"):
        pg.sql("CREATE TABLE %s AS SELECT i, md5(i::text) || md5((-i)::text) AS s "
               "FROM generate_series(1, %d) AS i" % (table, ROWS if table == "large" else ROWS // 6))
    pg.sql("VACUUM large, grown, cut")
    wa.run("backup")
    large = pg.value("SELECT pg_relation_filepath('large')")
    size = os.path.getsize(os.path.join(pg.data, large))
    assert size > 10 * BLOCK

    # One row in the middle of a block, a file that grows and one that becomes shorter, and pgbench.
    pg.sql("UPDATE large SET s = repeat('x', 64) WHERE i = %d" % (ROWS // 2))
    pg.sql("INSERT INTO grown SELECT i, md5(i::text) FROM generate_series(1, 50000) AS i")
    pg.sql("DELETE FROM cut WHERE i > %d" % (ROWS // 12))
    pg.sql("VACUUM cut")
    pg.pgbench("-c", "2", "-t", "100", "-n")
    expected = content(pg)
    pg.sql("CHECKPOINT")
    arrived(wa, pg)
    wa.stop()
    pg.stop()
    copy = lab.Postgres(work_dir + "/copy", 15)
    subprocess.run(["cp", "-a", pg.data, copy.data], check=True)

    # Back to the backup's own state.
    done = delta(wa, copy.data, "--no-recovery")
    copy.tool("pg_verifybackup", "-n", copy.data)
    assert os.path.getsize(os.path.join(copy.data, large)) == size
    # The changed row's block, that of its new version, the first one and the last one.
    assert done["kept_block_bytes"] >= size - 4 * BLOCK and done["kept_bytes"] > 0, done
    assert 0 < done["fetched_bytes"] < done["backup_bytes"] * 2 / 3, done
    again = delta(wa, copy.data, "--no-recovery")
    assert again["kept_block_bytes"] == 0 and again["kept_files"] > done["kept_files"]
    assert again["fetched_bytes"] < done["fetched_bytes"]

    # A sector of one block is torn; pg_control was removed, as by a run that was killed.
    with open(os.path.join(copy.data, large), "r+b") as file:
        file.seek(5 * BLOCK + 512)
        file.write(b"\0" * 512)
    os.unlink(os.path.join(copy.data, "global", "pg_control"))
    torn = delta(wa, copy.data, "--no-recovery")
    copy.tool("pg_verifybackup", "-n", copy.data)
    assert torn["kept_block_bytes"] >= size - 2 * BLOCK
    assert torn["fetched_bytes"] - again["fetched_bytes"] < 2 * BLOCK

    # And to the end of the archive.
    delta(wa, copy.data)
    copy.tool("pg_verifybackup", "-n", copy.data)
    make_pg.adopt(copy)
    copy.start()
    lab.wait_until(lambda: copy.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
    assert content(copy) == expected
    copy.tool("pg_amcheck", "-h", copy.dir, "-p", copy.port, "-U", "postgres", "--install-missing",
              "postgres")
    plan = wa.json("restore", "-D", copy.dir + "/x", "--delta", "--dry-run")
    assert "at most" in plan["text"]
    assert [plan[k] for k in ("kept_files", "kept_bytes", "kept_block_bytes", "fetched_bytes")] == [None] * 4
