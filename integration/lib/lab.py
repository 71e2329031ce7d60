"""Real servers and the real program for tests: PostgreSQL, S3 gateways, walagent.

Everything listens on loopback only, lives below one work directory, and is stopped by whoever
started it. Run as root, the servers and the program run as user postgres.
"""
import contextlib
import ctypes
import datetime
import grp
import hashlib
import hmac
import http.client
import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse

import psycopg2

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SCRIPTS = os.path.join(ROOT, "integration", "lab")
LAB = os.environ.get("LAB") or os.path.join(os.environ.get("TMPDIR") or "/tmp", "walagent-lab")
BUILD = os.environ.get("WALAGENT_BUILD") or os.path.join(ROOT, "build", "dev")
USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
PLAIN_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8",
                     "TZ": "UTC", "HOME": "/nonexistent",
                     **{name: value for name, value in os.environ.items()
                        if name.endswith("SAN_OPTIONS")}}  # where sanitizers report


# Servers that pg_ctl leaves behind become our children, so that a killed one can be reaped at once:
# PostgreSQL takes a zombie for a running server.
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class CommandFailed(AssertionError):
    pass


# ---- waiting, ports, processes ----

PATIENCE = 4  # the times that tests give are those of a quiet machine


def wait_until(predicate, timeout=30, what=None):
    """The first true value of predicate(); an AssertionError names `what` when there is none."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError("not within %s s: %s" % (timeout, what or predicate.__name__))
        time.sleep(0.05)


def port_is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


GIVEN_PORTS = set()


def free_port(offsets=(0,)):
    """A port below the ephemeral range for which port + offset is free for every offset. None is given
    twice: who has one may not listen yet, or not any more until it is started again."""
    for _ in range(1000):
        port = random.randrange(15000, 30000)
        wanted = {port + offset for offset in offsets}
        if not wanted & GIVEN_PORTS and all(port_is_free(p) for p in wanted):
            GIVEN_PORTS.update(wanted)
            return port
    raise AssertionError("no free port")


def as_user(argv):
    """The command line that runs argv as the user the servers run as."""
    if os.geteuid() != 0:
        return list(argv)
    return ["setpriv", "--reuid=" + USER, "--regid=" + USER, "--init-groups", "--"] + list(argv)


def own(path):
    """Give a path to that user."""
    if os.geteuid() == 0:
        os.chown(path, pwd.getpwnam(USER).pw_uid, grp.getgrnam(USER).gr_gid)


def make_dir(path, mode=0o755):
    os.makedirs(path, exist_ok=True)
    os.chmod(path, mode)
    own(path)
    return path


def write_file(path, text, mode=0o644):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)
    own(path)
    return path


def read_file(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def run(argv, check=True, timeout=120, env=None, cwd="/", text=True, user=True, stdin_text=None):
    """Run to the end, as the servers' user unless user=False. check: True: must exit 0; a number
    or a tuple of numbers: must exit so; None: anything."""
    full = dict(PLAIN_ENVIRONMENT)
    full.update(env or {})
    done = subprocess.run(as_user(argv) if user else list(argv), env=full, cwd=cwd, timeout=timeout,
                          text=text, capture_output=True, errors="replace" if text else None,
                          **({"stdin": subprocess.DEVNULL} if stdin_text is None
                             else {"input": stdin_text}))
    wanted = (0,) if check is True else (check,) if isinstance(check, int) else check
    if wanted is not None and done.returncode not in wanted:
        raise CommandFailed("%s: exit code %s, expected %s\nstdout: %s\nstderr: %s" % (
            " ".join(argv), done.returncode, wanted, done.stdout[-4000:], done.stderr[-4000:]))
    return done


def state_of(pid):
    """The letter of its state, as ps shows it; None when it is gone."""
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_running(pid):
    return state_of(pid) not in ("Z", "X", None)


def children_of(pid):
    found = []
    for task in os.listdir("/proc/%d/task" % pid):
        found += [int(p) for p in read_file("/proc/%d/task/%s/children" % (pid, task)).split()]
    return found


def kill(pid, signum=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def is_gone(pid):
    """Dead, and reaped if it was ours."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return not os.path.exists("/proc/%d" % pid)


# ---- PostgreSQL ----

def postgres_bin(major):
    """The directory of that major's programs; brought in from another Debian suite if need be."""
    native = "/usr/lib/postgresql/%s/bin" % major
    if os.path.exists(os.path.join(native, "postgres")):
        return native
    foreign = os.path.join(LAB, "pg", str(major), "bin")
    if not os.path.exists(os.path.join(foreign, "postgres")):
        subprocess.run([os.path.join(SCRIPTS, "pg-majors"), str(major)], check=True, timeout=600,
                       stdin=subprocess.DEVNULL, env=dict(os.environ, LAB=LAB))
    return foreign


SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "wal_level": "replica",
    "max_wal_senders": 10,
    "max_replication_slots": 10,
    "hot_standby": "on",
    "shared_buffers": "32MB",
    "max_connections": 40,
    "log_line_prefix": "%m [%p] %q%a ",
    "log_replication_commands": "on",
    "checkpoint_timeout": "5min",
    "timezone": "UTC",
}


class Postgres:
    """One server: data directory `<dir>/data`, socket and log in `<dir>`.

    Made from a template (see Templates), so servers of one session share a system identifier
    unless they are made with init()."""

    def __init__(self, directory, major=15, port=None):
        self.dir = make_dir(directory)
        self.major = int(major)
        self.port = port or free_port()
        self.data = os.path.join(self.dir, "data")
        self.log_path = os.path.join(self.dir, "postgres.log")
        self.bin = postgres_bin(self.major)

    # setting up

    def init(self, checksums=True, wal_segsize=None, options=()):
        argv = ["-D", self.data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8",
                "--locale=C.UTF-8" if self.major < 17 else "--locale-provider=builtin"]
        if self.major >= 17:
            argv += ["--builtin-locale=C.UTF-8", "--locale=C"]
        if checksums:
            argv.append("--data-checksums")
        elif self.major >= 18:
            argv.append("--no-data-checksums")
        if wal_segsize:
            argv.append("--wal-segsize=%d" % wal_segsize)
        self.tool("initdb", *argv, *options)
        self.configure(**SETTINGS)
        self.allow_replication()
        return self

    def configure(self, **settings):
        """Append settings (the last one wins) and those that depend on this server's place."""
        lines = ["%s = '%s'" % (k, str(v).replace("'", "''")) for k, v in settings.items()]
        self._append("postgresql.conf", lines)
        return self

    def allow_replication(self, user="all"):
        self._append("pg_hba.conf", ["local replication %s trust" % user,
                                     "host replication %s 127.0.0.1/32 trust" % user])
        return self

    def _append(self, name, lines):
        with open(os.path.join(self.data, name), "a", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")

    # running

    def start(self, timeout=60, check=True):
        options = "-p %d -c unix_socket_directories=%s" % (self.port, self.dir)
        done = run([os.path.join(self.bin, "pg_ctl"), "-D", self.data, "-l", self.log_path, "-w",
                    "-t", str(timeout), "-o", options, "start"], check=None, timeout=timeout + 30)
        if check and done.returncode != 0:
            raise CommandFailed("server did not start: %s%s\n%s" % (
                done.stdout, done.stderr, self.log[-4000:]))
        return self

    def stop(self, mode="fast", timeout=60):
        if self.is_running():
            self.tool("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", str(timeout), "stop",
                      timeout=timeout + 30)
        return self

    def restart(self, mode="fast"):
        return self.stop(mode).start()

    def reload(self):
        self.tool("pg_ctl", "-D", self.data, "reload")
        return self

    def promote(self, timeout=60):
        self.tool("pg_ctl", "-D", self.data, "-w", "-t", str(timeout), "promote",
                  timeout=timeout + 30)
        return self

    def kill9(self):
        """A crash of the whole server: nothing is flushed, nothing is told to anybody."""
        pid = self.pid
        assert pid, "the server isn't running"
        os.kill(pid, signal.SIGSTOP)  # so that it doesn't start new children meanwhile
        wait_until(lambda: state_of(pid) == "T", 30, "the postmaster has stopped")
        pids = children_of(pid)
        for p in pids + [pid]:  # the other way round they could notice, and say so to their clients
            kill(p)
        wait_until(lambda: all([is_gone(p) for p in pids + [pid]]), 30, "server is dead")
        return self

    @property
    def pid(self):
        lines = read_file(os.path.join(self.data, "postmaster.pid")).split("\n")
        if len(lines) < 2 or not lines[0].isdigit() or not is_running(int(lines[0])):
            return None
        return int(lines[0]) if os.path.realpath(lines[1]) == os.path.realpath(self.data) else None

    def is_running(self):
        return self.pid is not None

    @property
    def log(self):
        return read_file(self.log_path)

    # talking to it

    def conninfo(self, user="postgres", dbname="postgres", **more):
        parts = {"host": self.dir, "port": self.port, "user": user, "dbname": dbname}
        parts.update(more)
        return " ".join("%s=%s" % item for item in parts.items() if item[1] is not None)

    @contextlib.contextmanager
    def connect(self, autocommit=True, **more):
        connection = psycopg2.connect(self.conninfo(**more))
        connection.autocommit = autocommit
        try:
            yield connection
        finally:
            connection.close()

    def sql(self, query, *args, **more):
        """All rows of one statement ([] when it has none)."""
        with self.connect(**more) as connection, connection.cursor() as cursor:
            cursor.execute(query, args or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, query, *args, **more):
        return self.sql(query, *args, **more)[0][0]

    def is_ready(self):
        try:
            return self.value("SELECT 1") == 1
        except psycopg2.Error:
            return False

    def psql(self, *argv, **more):
        return self.tool("psql", "-X", "-v", "ON_ERROR_STOP=1", "-h", self.dir, "-p",
                         str(self.port), "-U", "postgres", *argv, **more)

    def pgbench(self, *argv, **more):
        return self.tool("pgbench", "-h", self.dir, "-p", str(self.port), "-U", "postgres", *argv,
                         "postgres", **more)

    def tool(self, name, *argv, **more):
        return run([os.path.join(self.bin, name)] + [str(a) for a in argv], **more)

    def control(self):
        out = self.tool("pg_controldata", self.data).stdout
        return {k.strip(): v.strip() for k, _, v in (l.partition(":") for l in out.splitlines())}

    @property
    def system_identifier(self):
        return self.control()["Database system identifier"]

    # WAL and replicas

    def lsn(self):
        return self.value("SELECT pg_current_wal_flush_lsn()::text")

    def timeline(self):
        return self.value("SELECT timeline_id FROM pg_control_checkpoint()")

    def switch_wal(self):
        """Completes the current segment; returns its name."""
        name = self.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
        self.sql("SELECT pg_logical_emit_message(false, 'test', 'x')")
        self.sql("SELECT pg_switch_wal()")
        return name

    def add_slot(self, name):
        self.sql("SELECT pg_create_physical_replication_slot(%s, true)", name)
        return self

    def standby(self, directory, slot=None, **settings):
        """A streaming replica of this server (not started)."""
        other = Postgres(directory, self.major)
        argv = ["-D", other.data, "-d", self.conninfo(), "-c", "fast", "-X", "stream", "-R"]
        if slot:
            argv += ["-C", "-S", slot]
        other.tool("pg_basebackup", *argv)
        other.configure(**settings)
        return other

    def caught_up_with(self, primary, timeout=30):
        target = primary.lsn()
        wait_until(lambda: self.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", target),
                   timeout, "replay reaches " + target)
        return self


class Templates:
    """Data directories that were initdb'ed once and are copied for every test."""

    def __init__(self, directory):
        self.dir = make_dir(directory)

    def make(self, directory, major=15, checksums=True, wal_segsize=None):
        name = "%s-%s-%s" % (major, "c" if checksums else "n", wal_segsize or 16)
        template = Postgres(os.path.join(self.dir, name), major, port=1)
        if not os.path.exists(os.path.join(template.data, "PG_VERSION")):
            template.init(checksums=checksums, wal_segsize=wal_segsize)
        server = Postgres(directory, major)
        subprocess.run(["cp", "-a", "--reflink=auto", template.data, server.data], check=True)
        return server


# ---- S3 ----

class S3Client:
    """Just enough of SigV4 to make buckets and to look at objects behind walagent's back."""

    def __init__(self, endpoint, access_key, secret_key, region="us-east-1", ca=None):
        self.url = urllib.parse.urlsplit(endpoint)
        self.access_key, self.secret_key, self.region, self.ca = access_key, secret_key, region, ca

    def _headers(self, method, path, query, body, headers):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        signed = {k.lower(): v for k, v in headers.items()}
        signed.update({"host": self.url.netloc, "x-amz-date": now, "x-amz-content-sha256": digest})
        names = ";".join(sorted(signed))
        canonical = "\n".join([method, path, query, *("%s:%s" % (k, signed[k].strip())
                                                      for k in sorted(signed)), "", names, digest])
        scope = "/".join([now[:8], self.region, "s3", "aws4_request"])
        to_sign = "\n".join(["AWS4-HMAC-SHA256", now, scope,
                             hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + self.secret_key).encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        signed["authorization"] = (
            "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (
                self.access_key, scope, names, signature))
        return signed

    def request(self, method, path, query=None, body=b"", headers=None):
        """(status, headers, body); path as in "/bucket/key"."""
        path = urllib.parse.quote(path, safe="/-_.~")
        text = "&".join("%s=%s" % (urllib.parse.quote(k, safe="-_.~"),
                                   urllib.parse.quote(str(v), safe="-_.~"))
                        for k, v in sorted((query or {}).items()))
        if self.url.scheme == "https":
            connection = http.client.HTTPSConnection(
                self.url.netloc, timeout=60, context=ssl.create_default_context(cafile=self.ca))
        else:
            connection = http.client.HTTPConnection(self.url.netloc, timeout=60)
        try:
            signed = self._headers(method, path, text, body, headers or {})
            connection.request(method, path + ("?" + text if text else ""), body, signed)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def make_bucket(self, name):
        status, _, body = self.request("PUT", "/" + name)
        assert status in (200, 409), (status, body)
        return name

    def get(self, bucket, key):
        status, _, body = self.request("GET", "/%s/%s" % (bucket, key))
        assert status == 200, (status, body)
        return body

    def put(self, bucket, key, body):
        status, _, answer = self.request("PUT", "/%s/%s" % (bucket, key), body=body)
        assert status == 200, (status, answer)

    def delete(self, bucket, key):
        status, _, answer = self.request("DELETE", "/%s/%s" % (bucket, key))
        assert status in (200, 204, 404), (status, answer)

    def keys(self, bucket, prefix=""):
        found, token = [], None
        while True:
            query = {"list-type": 2, "prefix": prefix}
            if token:
                query["continuation-token"] = token
            status, _, body = self.request("GET", "/" + bucket, query)
            assert status == 200, (status, body)
            text = body.decode()
            found += re.findall(r"<Key>([^<]*)</Key>", text)
            token = re.search(r"<NextContinuationToken>([^<]*)<", text)
            if not token:
                return found
            token = token.group(1)


class S3Server:
    """Ceph's gateway or Swift's S3 interface, by the scripts in integration/lab."""

    script = None
    offsets = (0,)

    def __init__(self, directory, port=None, env=None):
        self.dir = directory
        self.port = port or free_port(self.offsets)
        self.env = dict(os.environ, LAB=LAB, **(env or {}))
        self.endpoint = self.tls_endpoint = self.ca = None
        self.access_key = self.secret_key = self.region = None
        self.client = None

    def _script(self, verb, *argv, timeout=300):
        done = subprocess.run([os.path.join(SCRIPTS, self.script), verb, str(self.port), self.dir,
                               *argv], env=self.env, stdin=subprocess.DEVNULL, text=True,
                              timeout=timeout, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise CommandFailed("%s %s: %s%s" % (self.script, verb, done.stdout, done.stderr))
        return done.stdout

    def start(self):
        for line in self._script("start").splitlines():
            name, _, value = line.partition("=")
            if name in ("endpoint", "tls_endpoint", "ca", "access_key", "secret_key", "region"):
                setattr(self, name, value)
        self.client = S3Client(self.endpoint, self.access_key, self.secret_key, self.region)
        return self

    def stop(self):
        self._script("stop")

    def wipe(self):
        self._script("wipe")

    def make_bucket(self, name=None):
        return self.client.make_bucket(name or "b-%016x" % random.getrandbits(64))

    def settings(self, bucket, prefix="", tls=False):
        """The [repository] section for a bucket here."""
        found = {"url": "s3://%s/%s" % (bucket, prefix) if prefix else "s3://" + bucket,
                 "s3_endpoint": self.tls_endpoint if tls else self.endpoint,
                 "s3_region": self.region, "s3_addressing": "path",
                 "s3_access_key_id": self.access_key, "s3_secret_access_key": self.secret_key}
        if tls:
            found["s3_ca_file"] = self.ca
        return found

    def environment(self, tls=False):
        """The same as environment twins, without the URL."""
        return {"WALAGENT_REPOSITORY_" + k.upper(): v
                for k, v in self.settings("none", tls=tls).items() if k != "url"}


class Ceph(S3Server):
    script = "ceph-rgw"
    offsets = (0, 1) + tuple(range(1000, 1010))

    def admin(self, *argv):
        """radosgw-admin: quotas, suspended users, rate limits."""
        return self._script("admin", *argv)


class Swift(S3Server):
    script = "swift-s3"
    offsets = (0, 1) + tuple(range(1000, 1004))


# ---- walagent ----

def install_program(directory, build=None):
    """Copy the program out of the build tree, to a place where every user may run it."""
    make_dir(directory)
    for name in ("walagent", "walagent-main"):
        source = os.path.join(build or BUILD, name)
        assert os.path.exists(source), "%s has not been built" % source
        shutil.copy2(source, directory)
        os.chmod(os.path.join(directory, name), 0o755)
    return directory


# What a server answers while it comes and goes; a test that kills or restarts one expects it of the agent's log.
COMES_AND_GOES = (r"WARNING: .*FATAL: +(the database system is (starting up|shutting down|not yet accepting connections)"
                  r"|terminating connection due to administrator command)")
UNEXPECTED = re.compile(r"\b(?:ERROR|FATAL|PANIC):|\blevel=error\b|\"level\":\s*\"error\""
                        r"|AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:")


class Walagent:
    """One configuration of walagent and, when started, its agent."""

    def __init__(self, directory, program, repository, postgres=None, name="main", settings=None):
        """repository: the [repository] section as a dictionary; settings: {"section.key": value}
        for the rest."""
        self.dir = make_dir(directory)
        self.program = program
        self.name = name
        self.config_path = os.path.join(self.dir, "walagent.conf")
        self.log_path = os.path.join(self.dir, "agent.log")
        self.socket = os.path.join(self.dir, "agent.sock")
        self.http_port = free_port()
        self.process = None
        self.expected = []
        self.sections = {
            "cluster": {"name": name},
            "repository": dict(repository),
            "agent": {"state_dir": make_dir(os.path.join(self.dir, "state"), 0o700),
                      "socket": self.socket, "listen": "127.0.0.1:%d" % self.http_port},
        }
        if postgres is not None:
            self.sections["cluster"].update(conninfo=postgres.conninfo(dbname=None),
                                            data_dir=postgres.data)
        for key, value in (settings or {}).items():
            self.set(key, value, write=False)
        self.write_config()

    def set(self, key, value, write=True):
        """set("archive.tail_interval", "200ms"); None removes the key."""
        section, _, name = key.rpartition(".")
        keys = self.sections.setdefault(section, {})
        keys.pop(name, None)
        if value is not None:
            keys[name] = value
        if write:
            self.write_config()
        return self

    def write_config(self):
        lines = []
        for section, keys in self.sections.items():
            lines.append("[%s]" % section)
            for key, value in keys.items():
                quoted = str(value).replace("\\", "\\\\").replace('"', '\\"')
                lines.append('%s = "%s"' % (key, quoted))
        write_file(self.config_path, "\n".join(lines) + "\n", 0o600)

    # commands

    def command(self, *argv):
        return [os.path.join(self.program, "walagent"), *[str(a) for a in argv]]

    def environment(self, more=None):
        env = {"WALAGENT_CONFIG": self.config_path}
        env.update(more or {})
        return env

    def run(self, *argv, check=True, timeout=120, env=None, **more):
        """A command to its end; see run() for check."""
        return run(self.command(*argv), check=check, timeout=timeout, env=self.environment(env),
                   **more)

    def json(self, *argv, **more):
        return json.loads(self.run(*argv, "--json", **more).stdout)

    # the agent

    def start(self, env=None, ready=True, timeout=30):
        assert self.process is None or self.process.poll() is not None, "the agent runs already"
        full = dict(PLAIN_ENVIRONMENT)
        full.update(self.environment(env))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(as_user(self.command("run")), env=full, cwd="/",
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        if ready:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=30):
        def answers():
            assert self.is_running(), "the agent ended:\n" + self.log[-4000:]
            return self.run("status", check=None).returncode == 0
        wait_until(answers, timeout, "the agent answers")
        return self

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, signum):
        self.process.send_signal(signum)
        return self

    def stop(self, timeout=60):
        """In order; returns the exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self.process = None
        return code

    def kill9(self):
        if self.is_running():
            self.process.kill()
            self.process.wait(30)
        self.process = None
        return self

    def http(self, path, timeout=10):
        """(status, text)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    # its log

    @property
    def log(self):
        return read_file(self.log_path)

    def expect(self, *patterns):
        """Errors that this test provokes: regular expressions for lines of the log."""
        self.expected += [re.compile(p) for p in patterns]
        return self

    def unexpected_errors(self):
        return [line for line in self.log.splitlines() if UNEXPECTED.search(line)
                and not any(p.search(line) for p in self.expected)]

    def assert_no_unexpected_error(self):
        found = self.unexpected_errors()
        assert not found, "unexpected in the agent's log:\n" + "\n".join(found)

    def wait_log(self, pattern, timeout=30):
        return wait_until(lambda: re.search(pattern, self.log), timeout,
                          "the agent's log shows " + pattern)
