"""Wall time, processor time and peak memory of commands and of the servers that work for them.

Processor time of a command is the operating system's own account of the finished process tree; a server's is
the difference of its tree's account, live and reaped children included. Memory is the proportional set size
(PSS) of the whole tree, sampled every 20 ms, so shared pages are counted once.
"""
import os
import pwd
import resource
import select
import signal
import subprocess
import threading
import time

from lab_lib import lab

TICK = os.sysconf("SC_CLK_TCK")


def stat_fields(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return None


def children(pid):
    found = []
    try:
        tasks = os.listdir("/proc/%d/task" % pid)
    except OSError:
        return found
    for task in tasks:
        try:
            with open("/proc/%d/task/%s/children" % (pid, task), encoding="ascii") as f:
                found += [int(p) for p in f.read().split()]
        except OSError:
            pass
    return found


def tree(pid):
    """The process and everything below it."""
    pids = [pid]
    for child in children(pid):
        pids += tree(child)
    return pids


def cpu_seconds(pid):
    """User and system time of a live tree, including what it reaped already."""
    total = 0
    for p in tree(pid):
        fields = stat_fields(p)
        if fields:
            total += sum(int(n) for n in fields[11:15])
    return total / TICK


def pss_bytes(pids):
    total = 0
    for pid in pids:
        try:
            with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as f:
                for line in f:
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
                        break
        except OSError:
            pass
    return total


class Peak:
    """Peak PSS of a tree while it runs; a thread that ends with stop()."""

    def __init__(self, pid):
        self.pid, self.peak, self.ended = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        while not self.ended.wait(0.02):
            self.peak = max(self.peak, pss_bytes(tree(self.pid)))

    def stop(self):
        self.ended.set()
        self.thread.join()
        return self.peak


def start(argv, env, cwd, out):
    """As the servers' user, without a program in between: that would be most of a short call."""
    user = {"user": lab.USER, "group": lab.USER, "extra_groups": os.getgrouplist(
        lab.USER, pwd.getpwnam(lab.USER).pw_gid)} if os.geteuid() == 0 else {}
    return subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd, **user)


def wait(process, timeout):
    """Its exit code, the moment it ends: Popen.wait with a timeout looks only every so often, up to 50 ms apart."""
    fd = os.pidfd_open(process.pid)
    try:
        if not select.select([fd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(process.args, timeout)
    finally:
        os.close(fd)
    return process.wait()


class Figures(dict):
    """wall, cpu (seconds), memory, stored (bytes): what one run took."""


def measure(argv, server=None, env=None, timeout=1800, log=None, memory=True):
    """Run a command to its end. server: a pid whose tree's processor time is added. memory: False where sampling
    it would be a good part of a short call."""
    before_server = cpu_seconds(server) if server else 0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with open(log or os.devnull, "ab") as out:
        process = start(argv, env, "/", out)
        peak = Peak(process.pid) if memory else None
        try:
            code = wait(process, timeout)
            wall = time.monotonic() - started
        finally:
            most = peak.stop() if peak else None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        raise RuntimeError("%s ended with %d; see %s" % (" ".join(argv), code, log))
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    if server:
        cpu += cpu_seconds(server) - before_server
    return Figures(wall=wall, cpu=cpu, memory=most)


def disk_bytes(*paths):
    total = 0
    for path in paths:
        for directory, _, files in os.walk(path):
            for name in files:
                try:
                    total += os.lstat(os.path.join(directory, name)).st_size
                except OSError:
                    pass
    return total


def cpu_of_children():
    """Processor time of everything that we have reaped."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def call(argv, env, cwd, log):
    """One call that must succeed; its duration in seconds. No memory is sampled: for calls of a few ms."""
    started = time.monotonic()
    with open(log or os.devnull, "ab") as out:
        code = wait(start(argv, env, cwd, out), 600)
    duration = time.monotonic() - started
    if code != 0:
        raise RuntimeError("%s ended with %d; see %s" % (" ".join(argv), code, log))
    return duration


def reap_others(known):
    """End and reap what calls left behind: children of ours that are not `known`."""
    for pid in set(children(os.getpid())) - known:
        try:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
