"""Two replicas that were promoted at one point write the same history file. Where the first record of
their timeline is gone nothing in a segment tells them apart: the later one gets a branch of its own."""
import os
import re
import shutil
import subprocess

import lab
from test_failover import fork_of, timeline_of
from test_hooks import SEGMENT, keys


def promoted_at_one_point(make_pg, work_dir):
    old = make_pg()
    old.sql("CREATE TABLE t (i int)")
    twins = [old.standby(os.path.join(work_dir, "twin%d" % n)) for n in range(2)]
    for twin in twins:
        make_pg.adopt(twin)
        twin.start().caught_up_with(old)
    old.stop()
    for n, twin in enumerate(twins):
        twin.promote()
        twin.sql("INSERT INTO t SELECT generate_series(1, %s)", 1000 * (n + 1))
    assert [timeline_of(t) for t in twins] == [2, 2] and fork_of(twins[0]) == fork_of(twins[1])
    return old, twins


def without_the_fork(twin, work_dir, count):
    """A pg_wal from which the segment with the fork is gone; the names of what it has."""
    names = []
    for n in range(count):
        twin.sql("INSERT INTO t VALUES (%s)", n)
        names.append(twin.switch_wal())
    wal = os.path.join(work_dir, "wal-" + os.path.basename(twin.dir))
    os.mkdir(wal)
    for name in names[1:] + ["00000002.history"]:
        shutil.copy(os.path.join(twin.data, "pg_wal", name), wal)
    lab.own(wal)
    for name in os.listdir(wal):
        lab.own(os.path.join(wal, name))
    return wal, names[1:]


def content(path):
    return subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout


def archived(walagent):
    """{branch: {segment: bytes}} of timeline 2."""
    found = {}
    for key in keys(walagent, "wal"):
        branch, name = key.split("/wal/")[1].split("/")[0], os.path.basename(key)[:24]
        if branch.startswith("00000002-"):
            found.setdefault(branch, {})[name] = content(key)
    return found


def test_the_second_of_two_that_share_a_history_archives_beside_the_first(make_pg, make_walagent,
                                                                          file_repository, work_dir):
    lab.own(work_dir)
    old, twins = promoted_at_one_point(make_pg, work_dir)
    walagent = make_walagent(file_repository, twins[0])
    walagent.run("init")
    first, second = [without_the_fork(t, work_dir, 5) for t in twins]
    assert first[1] == second[1]
    names = first[1]
    said = []
    for n, name in enumerate(names):  # by turns, as they come
        for wal, _ in (first, second) if n != 2 else (second, first):
            done = walagent.run("archive-push", os.path.join(wal, name))
            said += re.findall("archives as branch (\\S+)", done.stderr)
    there = archived(walagent)
    assert len(there) == 2 and len(said) == 1
    beside = said[0]
    assert re.fullmatch(r"00000002-[0-9a-f]{8}-2", beside) and set(there) == {beside, beside[:-2]}
    for branch, (wal, _) in ((beside[:-2], first), (beside, second)):
        assert sorted(there[branch]) == names
        for name in names:
            with open(os.path.join(wal, name), "rb") as f:
                assert there[branch][name] == f.read(), (branch, name)
    histories = [k for k in keys(walagent, "timeline") if beside[:-2] in k]
    assert len(histories) == 2 and len({lab.read_file(h) for h in histories}) == 1
    assert not keys(walagent, "quarantine")
    # the same again is the same again, and says nothing
    for wal, _ in (first, second):
        done = walagent.run("archive-push", os.path.join(wal, names[0]))
        assert "branch" not in done.stderr
    assert archived(walagent) == there
    # what goes on where a branch ends, and then differs, is a contradiction on either of them
    for wal, _ in (first, second):
        path = os.path.join(wal, names[-1])
        with open(path, "r+b") as f:
            f.seek(SEGMENT - 300)
            f.write(b"other")
        walagent.run("archive-push", path, check=5)
    assert archived(walagent) == there and len(keys(walagent, "quarantine")) == 2
