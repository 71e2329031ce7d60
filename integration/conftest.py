"""Fixtures: servers for the session, a PostgreSQL and a walagent for a test.

    WALAGENT_MAJORS="15 17 18"   majors that tests with the fixture `major` run on (default 15)
    WALAGENT_SERVERS=swift       also run tests on the second S3 implementation
    WALAGENT_BUILD=DIR           the build tree (default build/dev)
    WALAGENT_KEEP=1              leave the work directory behind
"""
import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import lab  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "long: left out by tests/run --quick")


def pytest_generate_tests(metafunc):
    if "major" in metafunc.fixturenames:
        majors = os.environ.get("WALAGENT_MAJORS", "15").split()
        metafunc.parametrize("major", [int(m) for m in majors], scope="session")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())


@pytest.fixture(scope="session")
def session_dir():
    path = tempfile.mkdtemp(prefix="wa-")
    os.chmod(path, 0o755)
    yield path
    if not os.environ.get("WALAGENT_KEEP"):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def templates(session_dir):
    return lab.Templates(os.path.join(session_dir, "templates"))


@pytest.fixture(scope="session")
def program(session_dir):
    return lab.install_program(os.path.join(session_dir, "bin"))


@pytest.fixture(scope="session")
def ceph(session_dir):
    server = lab.Ceph(os.path.join(session_dir, "ceph"))
    try:
        yield server.start()
    finally:
        server.wipe()


@pytest.fixture(scope="session")
def swift(session_dir):
    if "swift" not in os.environ.get("WALAGENT_SERVERS", "").split():
        pytest.skip("needs WALAGENT_SERVERS=swift (tests/run --servers)")
    server = lab.Swift(os.path.join(session_dir, "swift"))
    try:
        yield server.start()
    finally:
        server.wipe()


@pytest.fixture
def work_dir(session_dir):
    """Short, because sockets live in it; readable by everybody."""
    path = tempfile.mkdtemp(prefix="t", dir=session_dir)
    os.chmod(path, 0o755)
    yield path
    if not os.environ.get("WALAGENT_KEEP"):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_pg(templates, work_dir):
    """make_pg(major=15, checksums=True, wal_segsize=None, fresh=False, start=True, **settings).
    fresh: its own initdb, hence its own system identifier."""
    servers = []

    def make(major=15, checksums=True, wal_segsize=None, fresh=False, start=True, **settings):
        directory = os.path.join(work_dir, "pg%d" % (len(servers) + 1))
        if fresh:
            server = lab.Postgres(directory, major).init(checksums, wal_segsize)
        else:
            server = templates.make(directory, major, checksums, wal_segsize)
        servers.append(server)
        server.configure(**settings)
        return server.start() if start else server

    make.adopt = servers.append  # servers made otherwise, such as standbys
    yield make
    for server in reversed(servers):
        server.stop("immediate")


@pytest.fixture
def pg(make_pg):
    """A running PostgreSQL 15."""
    return make_pg()


@pytest.fixture
def file_repository(work_dir):
    """The [repository] section of a directory."""
    path = lab.make_dir(os.path.join(work_dir, "repo"), 0o750)
    return {"url": "file://" + path}


@pytest.fixture
def s3_repository(ceph):
    """The [repository] section of a fresh bucket."""
    return ceph.settings(ceph.make_bucket(), "archive")


@pytest.fixture
def make_walagent(request, program, work_dir):
    """make_walagent(repository, postgres=None, name="main", settings=None). At the end the agent is
    stopped, and the test fails on an ERROR in its log that it did not expect()."""
    agents = []

    def make(repository, postgres=None, name="main", settings=None):
        directory = os.path.join(work_dir, "wa%d" % (len(agents) + 1))
        agent = lab.Walagent(directory, program, repository, postgres, name, settings)
        agents.append(agent)
        return agent

    yield make
    for agent in agents:
        try:
            agent.stop()
        except Exception:
            agent.kill9()
            raise
        report = getattr(request.node, "report_call", None)
        if report is not None and report.failed:
            print("---- %s\n%s" % (agent.log_path, agent.log[-8000:]))
    for agent in agents:
        agent.assert_no_unexpected_error()
