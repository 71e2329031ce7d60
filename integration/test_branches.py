"""Two replicas that were promoted at one point write the same history file. Where the first record of
their timeline is gone nothing in a segment tells them apart: the later one gets a branch of its own."""
import os
import re
import shutil
import subprocess

import pytest

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


def switching(twin, count):
    """Names of segments that end in a switch: no record crosses from one to the next. How many records are
    in them differs between servers: a link is a position."""
    names = []
    rows = twin.value("SELECT count(*) FROM t")
    for n in range(count):
        twin.sql("INSERT INTO t SELECT generate_series(1, %s)", rows)
        names.append(twin.switch_wal())
    return names


def crossing(twin, count):
    """Names of full segments: a record begins in one and ends in the next."""
    begin = int(twin.value("SELECT pg_walfile_name(pg_current_wal_lsn())")[16:], 16)
    twin.sql("SELECT count(pg_logical_emit_message(false, 'fill', repeat('x', 3000 + i %% 1000)))"
             " FROM generate_series(1, %s) AS i", count * SEGMENT // 3000)
    end = int(twin.value("SELECT pg_walfile_name(pg_current_wal_lsn())")[16:], 16)
    twin.switch_wal()
    assert end >= begin + count
    return ["00000002%08X%08X" % (0, n) for n in range(begin, begin + count)]


def copy_of_wal(twin, work_dir, what, names):
    """A pg_wal that holds only these segments and the history."""
    wal = os.path.join(work_dir, "wal-%s-%s" % (os.path.basename(twin.dir), what))
    os.mkdir(wal)
    for name in names + ["00000002.history"]:
        shutil.copy(os.path.join(twin.data, "pg_wal", name), wal)
        lab.own(os.path.join(wal, name))
    lab.own(wal)
    return wal


def content(path):
    return subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout


def content_of(directory, name):
    with open(os.path.join(directory, name), "rb") as f:
        return f.read()


def archived(walagent):
    """{branch: {segment: bytes}} of timeline 2."""
    found = {}
    for key in keys(walagent, "wal"):
        branch, name = key.split("/wal/")[1].split("/")[0], os.path.basename(key)[:24]
        if branch.startswith("00000002-"):
            found.setdefault(branch, {})[name] = content(key)
    return found


@pytest.mark.parametrize("evidence", ["link", "segment before"])
@pytest.mark.parametrize("fill", [switching, crossing])
def test_the_second_of_two_that_share_a_history_archives_beside_the_first(
        make_pg, make_walagent, file_repository, work_dir, fill, evidence):
    lab.own(work_dir)
    old, twins = promoted_at_one_point(make_pg, work_dir)
    walagent = make_walagent(file_repository, twins[0])
    walagent.run("init")
    names = fill(twins[0], 5)
    assert fill(twins[1], 5) == names
    first = copy_of_wal(twins[0], work_dir, "all", names)
    alone = evidence == "link"
    second = {n: copy_of_wal(twins[1], work_dir, n, [n] if alone else names[1:]) for n in names[1:]}
    said = []

    def push(directory, name):
        done = walagent.run("archive-push", os.path.join(directory, name))
        said.extend(re.findall("archives as branch (\\S+)", done.stderr))

    push(first, names[0])  # with the fork: the branch has its name by the first record
    for n, name in enumerate(names[1:]):  # by turns, as they come
        for directory in (first, second[name]) if n != 2 else (second[name], first):
            push(directory, name)
    there = archived(walagent)
    assert len(there) == 2 and len(said) == 1
    beside = said[0]
    assert re.fullmatch(r"00000002-[0-9a-f]{8}-2", beside) and set(there) == {beside, beside[:-2]}
    assert sorted(there[beside[:-2]]) == names and sorted(there[beside]) == names[1:]
    for name in names:
        assert there[beside[:-2]][name] == content_of(first, name), name
    for name in names[1:]:
        assert there[beside][name] == content_of(second[name], name), name
    histories = [k for k in keys(walagent, "timeline") if beside[:-2] in k]
    assert len(histories) == 2 and len({lab.read_file(h) for h in histories}) == 1
    assert not keys(walagent, "quarantine")
    # the same again is the same again, and says nothing
    for directory in (first, second[names[1]]):
        push(directory, names[1])
    assert len(said) == 1 and archived(walagent) == there
    # what goes on where a branch ends, and then differs, is a contradiction on either of them
    for directory in (first, second[names[-1]]):
        path = os.path.join(directory, names[-1])
        with open(path, "r+b") as f:
            f.seek(SEGMENT - 300)
            f.write(b"other")
        walagent.run("archive-push", path, check=5)
    assert archived(walagent) == there and len(keys(walagent, "quarantine")) == 2


def test_without_the_segment_before_nothing_is_proved_and_other_bytes_are_a_conflict(
        make_pg, make_walagent, file_repository, work_dir):
    lab.own(work_dir)
    old, twins = promoted_at_one_point(make_pg, work_dir)
    walagent = make_walagent(file_repository, twins[0])
    walagent.run("init")
    names = switching(twins[0], 3)
    assert switching(twins[1], 3) == names
    first = copy_of_wal(twins[0], work_dir, "all", names)
    second = copy_of_wal(twins[1], work_dir, "last", names[2:])
    walagent.run("archive-push", os.path.join(first, names[0]))
    walagent.run("archive-push", os.path.join(first, names[2]))
    there = archived(walagent)
    walagent.run("archive-push", os.path.join(second, names[2]), check=5)
    assert archived(walagent) == there and len(keys(walagent, "quarantine")) == 1


def test_a_whole_segment_of_another_server_hides_no_chunks(make_pg, make_walagent, file_repository, work_dir):
    """The name is free and nothing is proved, but the branch has the segment's beginning: other bytes."""
    lab.own(work_dir)
    old, twins = promoted_at_one_point(make_pg, work_dir)
    walagent = make_walagent(file_repository, twins[0])
    walagent.run("init")
    names = crossing(twins[0], 3)
    assert crossing(twins[1], 3) == names
    first = copy_of_wal(twins[0], work_dir, "all", names)
    second = copy_of_wal(twins[1], work_dir, "last", names[2:])
    whole = content_of(first, names[2])
    with open(os.path.join(first, names[2]), "r+b") as f:
        f.seek(SEGMENT // 2)
        f.write(bytes(SEGMENT // 2))
    walagent.run("archive-push", os.path.join(first, names[0]))
    walagent.run("archive-push", os.path.join(first, names[2]))
    assert keys(walagent, "tail") and names[2] not in str(keys(walagent, "wal"))
    done = walagent.run("archive-push", os.path.join(second, names[2]), check=5)
    assert "contradicts its archived chunks" in done.stderr
    assert names[2] not in str(keys(walagent, "wal")) and len(keys(walagent, "quarantine")) == 1
    with open(os.path.join(first, names[2]), "wb") as f:
        f.write(whole)
    walagent.run("archive-push", os.path.join(first, names[2]))
    (branch, there), = archived(walagent).items()
    assert there[names[2]] == whole
