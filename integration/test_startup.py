"""What the hooks load: libraries for S3, servers, tar and HTTP stay away until something needs them."""
import ctypes.util
import glob
import os

import pytest

import lab
from test_hooks import archiving, segment_file, switch  # noqa: F401

HEAVY = ("libcurl", "libpq", "libarchive", "libmicrohttpd", "libssl", "libgnutls", "libldap", "libkrb5", "libxml2",
         "libicudata")


def loaded_by(walagent, directory, *argv):
    """The shared libraries of every process of a command, as the dynamic linker reports them."""
    prefix = os.path.join(lab.make_dir(directory), "ld")
    lab.own(directory)
    lab.run(["env", "LD_DEBUG=files", "LD_DEBUG_OUTPUT=" + prefix, *walagent.command(*argv)],
            env=walagent.environment())
    text = "".join(lab.read_file(path) for path in glob.glob(prefix + ".*"))
    assert "calling init: " in text
    return {os.path.basename(line.split("calling init: ")[1]).split(".so")[0]
            for line in text.splitlines() if "calling init: " in line}


@pytest.fixture
def segment(archiving):  # noqa: F811
    """(server, walagent, name): a whole segment that is archived."""
    pg, walagent = archiving
    pg.sql("CREATE TABLE t AS SELECT 1 AS i")
    return pg, walagent, switch(pg)


def test_hooks_without_an_agent_load_what_a_directory_needs(segment, work_dir):
    pg, walagent, name = segment
    pushed = loaded_by(walagent, work_dir + "/push", "archive-push", segment_file(pg, name))
    assert "libzstd" in pushed and not pushed.intersection(HEAVY)
    target = os.path.join(lab.make_dir(work_dir + "/out"), "segment")
    lab.own(work_dir + "/out")
    got = loaded_by(walagent, work_dir + "/get", "archive-get", name, target)
    assert "libzstd" in got and not got.intersection(HEAVY)


def test_hooks_of_an_agent_load_nothing_but_libc(segment, work_dir):
    pg, walagent, name = segment
    walagent.start()
    pushed = loaded_by(walagent, work_dir + "/push", "archive-push", segment_file(pg, name))
    of_sanitizers = ("libasan", "libubsan", "libtsan", "libm", "libgcc_s", "libstdc++")
    assert {n for n in pushed if not n.startswith(("ld-", *of_sanitizers))} == {"libc"}


def test_a_library_that_cannot_be_used_is_an_error_and_no_crash(segment, work_dir):
    _, walagent, _ = segment
    directory = lab.make_dir(work_dir + "/lib")
    name = ctypes.util.find_library("crypto")
    lab.run(["cc", "-shared", "-o", os.path.join(directory, name), "-x", "c", "/dev/null"], user=False)
    lab.own(work_dir)
    for command in ("list", "check", "run"):
        result = lab.run(["env", "LD_LIBRARY_PATH=" + directory, *walagent.command(command)],
                         env=walagent.environment(), check=None)
        assert result.returncode == 1, (command, result.stderr)
        assert name in result.stderr and "HINT" in result.stderr


def test_what_needs_a_server_loads_libpq(segment, work_dir):
    _, walagent, _ = segment
    assert "libpq" in loaded_by(walagent, work_dir + "/check", "init")
