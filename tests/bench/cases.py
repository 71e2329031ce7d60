"""What is measured. Each case returns {program: [Figures of each round]}, walagent first, rounds interleaved."""
import collections
import os
import shutil
import time

import measure
import peers
from lib import lab

Size = collections.namedtuple("Size", "rounds scale wal_segments gets")
SEGMENT = 16 * 1024 * 1024
TEXT = """CREATE TABLE words AS SELECT i AS id, md5(i::text) || repeat(' lorem ipsum dolor sit amet', (i %% 7)::int) AS t
FROM generate_series(1, %d) AS i"""


class Bench:
    """One PostgreSQL with data, one walagent repository, and the peers."""

    def __init__(self, scratch, build, size, level, jobs):
        self.scratch, self.size, self.level, self.jobs = scratch, size, level, jobs
        self.program = lab.install_program(os.path.join(scratch, "bin"), build)
        self.pg = lab.Postgres(os.path.join(scratch, "pg")).init()
        self.pg.configure(archive_mode="on", archive_command="true", max_wal_size="4GB", shared_buffers="256MB",
                          checkpoint_timeout="1h", wal_keep_size="0", autovacuum="off")
        self.log = os.path.join(scratch, "bench.log")
        self.backrest = None

    def __enter__(self):
        self.pg.start()
        self.pg.pgbench("-i", "-q", "-s", str(self.size.scale))
        self.pg.sql(TEXT % (self.size.scale * 20000))
        self.pg.sql("CHECKPOINT")
        self.version = self.pg.value("SHOW server_version")
        self.data_bytes = measure.disk_bytes(os.path.join(self.pg.data, "base"))
        self.agent = self.new_agent("main")
        self.agent.run("init")
        return self

    def __exit__(self, *_):
        self.agent.stop()
        self.pg.stop("immediate")

    def new_agent(self, name):
        repo = lab.make_dir(os.path.join(self.scratch, "repo-" + name))
        settings = {"archive.compression_level": self.level, "backup.compression_level": self.level,
                    "backup.jobs": self.jobs, "agent.log_level": "warning", "cluster.slot": "walagent_" + name}
        agent = lab.Walagent(os.path.join(self.scratch, "agent-" + name), self.program, {"url": "file://" + repo},
                             self.pg, name=name, settings=settings)
        agent.repo = repo
        return agent

    def peer(self, bundle=False):
        name = "backrest-bundle" if bundle else "backrest"
        attribute = name.replace("-", "_")
        if not getattr(self, attribute, None):
            setattr(self, attribute, peers.PgBackRest(os.path.join(self.scratch, name), self.pg, self.level,
                                                      self.jobs, bundle))
        return getattr(self, attribute)

    def measure(self, argv, server=False, env=None):
        return measure.measure(lab.as_user(argv), self.pg.pid if server else None,
                               dict(os.environ, **(env or {})), log=self.log)

    def walagent(self, *argv, server=False):
        return self.measure(self.agent.command(*argv), server, self.agent.environment())

    # ---- backup ----

    def our_backup(self):
        """The agent runs beside it, as it does in life; its own processor time is small and not counted."""
        before = measure.disk_bytes(os.path.join(self.agent.repo, "main"))
        figures = self.walagent("backup", "-q", server=True)
        figures["stored"] = measure.disk_bytes(os.path.join(self.agent.repo, "main")) - before
        return figures

    def backrest_backup(self, bundle):
        peer = self.peer(bundle)
        before = measure.disk_bytes(peer.repo)
        figures = self.measure(peer.argv("--type=full", "backup"), server=True)
        figures["stored"] = measure.disk_bytes(peer.repo) - before
        return figures

    def basebackup(self):
        target = os.path.join(self.scratch, "basebackup")
        shutil.rmtree(target, ignore_errors=True)
        figures = self.measure([os.path.join(self.pg.bin, "pg_basebackup"), "-h", self.pg.dir, "-p", str(self.pg.port),
                                "-U", "postgres", "-D", target, "-Ft", "-X", "none", "-c", "fast",
                                "--compress=client-zstd:%d" % self.level], server=True)
        figures["stored"] = measure.disk_bytes(target)
        return figures

    def backup(self):
        if not self.agent.is_running():
            self.agent.start()
        programs = {"walagent": self.our_backup, "pgBackRest": lambda: self.backrest_backup(False),
                    "pgBackRest, bundled": lambda: self.backrest_backup(True),
                    "pg_basebackup client-zstd:%d" % self.level: self.basebackup}
        return self.rounds(programs)

    def rounds(self, programs):
        results = {name: [] for name in programs}
        for _ in range(self.size.rounds):
            for name, run in programs.items():
                os.sync()
                results[name].append(run())
        return results

    # ---- restore ----

    def our_restore(self):
        self.forget_restored()
        return self.walagent("restore", "-q", "-D", self.target, "--jobs", str(self.jobs))

    def backrest_restore(self, bundle):
        self.forget_restored()
        lab.make_dir(self.target, 0o700)
        return self.measure(self.peer(bundle).argv("--pg1-path=" + self.target, "restore"))

    @property
    def target(self):
        return os.path.join(self.scratch, "restored")

    def forget_restored(self):
        shutil.rmtree(self.target, ignore_errors=True)

    def restore(self):
        if not self.agent.json("list")["backups"]:
            self.backup()
        elif not os.path.exists(os.path.join(self.peer().repo, "backup", "bench", "latest")):
            self.backrest_backup(False)
            self.backrest_backup(True)
        return self.rounds({"walagent": self.our_restore, "pgBackRest": lambda: self.backrest_restore(False),
                            "pgBackRest, bundled": lambda: self.backrest_restore(True)})

    # ---- WAL in by streaming ----

    def make_wal(self, segments):
        """About that many segments: updates and inserts, with full-page images after a checkpoint as in life."""
        start = self.pg.lsn()
        while (lab_lsn(self.pg.lsn()) - lab_lsn(start)) < segments * SEGMENT:
            self.pg.pgbench("-n", "-c", "4", "-j", "2", "-t", "3000", timeout=600)
            self.pg.sql("CREATE TABLE IF NOT EXISTS filler AS SELECT 1 AS id, ''::text AS t")
            self.pg.sql("INSERT INTO filler SELECT i, md5(i::text) || repeat(' lorem', i % 9)"
                        " FROM generate_series(1, 150000) AS i")
        self.pg.switch_wal()

    def our_catchup(self, name):
        agent = self.backlog[name]
        target = self.pg.lsn()
        server_before = measure.cpu_seconds(self.pg.pid)
        started = time.monotonic()
        agent.start(ready=False)
        peak = measure.Peak(agent.process.pid)
        lab.wait_until(lambda: self.durable(agent) >= lab_lsn(target), 900, "the agent catches up")
        wall = time.monotonic() - started
        cpu = measure.cpu_seconds(agent.process.pid) + measure.cpu_seconds(self.pg.pid) - server_before
        memory = peak.stop()
        agent.stop()
        return measure.Figures(wall=wall, cpu=cpu, memory=memory,
                               stored=measure.disk_bytes(os.path.join(agent.repo, name)))

    def durable(self, agent):
        done = self.pg.sql("SELECT coalesce(max(flush_lsn), '0/0')::text FROM pg_stat_replication"
                           " WHERE application_name = 'walagent'")
        return lab_lsn(done[0][0])

    def receivewal(self, slot):
        target = lab.make_dir(os.path.join(self.scratch, "receivewal"))
        figures = self.measure([os.path.join(self.pg.bin, "pg_receivewal"), "-h", self.pg.dir, "-p", str(self.pg.port),
                                "-U", "postgres", "-D", target, "-S", slot, "--endpos", self.pg.lsn(), "--no-loop"],
                               server=True)
        figures["stored"] = measure.disk_bytes(target)
        shutil.rmtree(target)
        return figures

    def catchup(self):
        self.agent.stop()
        self.backlog = {}
        slots = []
        for i in range(self.size.rounds):
            name = "catchup%d" % i
            self.backlog[name] = self.new_agent(name)
            self.backlog[name].run("init")
            slots.append("receivewal%d" % i)
            self.pg.add_slot(slots[-1])
        self.make_wal(self.size.wal_segments)
        results = {"walagent": [], "pg_receivewal": []}
        for i in range(self.size.rounds):
            os.sync()
            results["walagent"].append(self.our_catchup("catchup%d" % i))
            os.sync()
            results["pg_receivewal"].append(self.receivewal(slots[i]))
        for name, agent in self.backlog.items():
            self.pg.sql("SELECT pg_drop_replication_slot('walagent_%s')" % name)
        for slot in slots:
            self.pg.sql("SELECT pg_drop_replication_slot('%s')" % slot)
        return results

    # ---- the hooks ----

    def saved_wal(self):
        """Whole segments of this server, kept aside; made once."""
        directory = os.path.join(self.scratch, "wal")
        if not os.path.exists(directory):
            lab.make_dir(directory)
            self.pg.sql("SELECT pg_create_physical_replication_slot('keep', true)")
            self.make_wal(self.size.gets)
            last = self.pg.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
            wal = os.path.join(self.pg.data, "pg_wal")
            for name in sorted(n for n in os.listdir(wal) if len(n) == 24 and n < last)[-self.size.gets:]:
                shutil.copy2(os.path.join(wal, name), directory)
                lab.own(os.path.join(directory, name))
            self.pg.sql("SELECT pg_drop_replication_slot('keep')")
        return [os.path.join(directory, n) for n in sorted(os.listdir(directory))]

    def each(self, argv_of, env=None):
        """One call a segment, as the server makes them; the median call is `wall`."""
        runs = [self.measure(argv_of(path), env=env) for path in self.saved_wal()]
        runs.sort(key=lambda r: r["wall"])
        middle = dict(runs[len(runs) // 2])
        middle["cpu"] = sum(r["cpu"] for r in runs) / len(runs)
        return measure.Figures(middle)

    def push(self):
        """Single calls without an agent, each to a repository that has not seen the segment."""
        self.agent.stop()
        results = {"walagent": [], "pgBackRest": []}
        for i in range(self.size.rounds):
            agent = self.new_agent("push%d" % i)
            agent.run("init", "--no-slot")
            env = agent.environment()
            results["walagent"].append(self.each(lambda p: agent.command("archive-push", p), env))  # noqa: B023
            self.peer().clear_backups()
            results["pgBackRest"].append(self.each(lambda p: self.peer().argv("archive-push", p)))
        return results

    def get(self):
        """Single calls without an agent; cp stands for a file that is there already."""
        agent = self.new_agent("get")
        agent.run("init", "--no-slot")
        for path in self.saved_wal():
            agent.run("archive-push", path)
            lab.run(self.peer().argv("archive-push", path), check=None)
        target = os.path.join(lab.make_dir(os.path.join(self.scratch, "got")), "segment")
        names = {"walagent": lambda p: agent.command("archive-get", os.path.basename(p), target),
                 "pgBackRest": lambda p: self.peer().argv("archive-get", os.path.basename(p), target),
                 "cp": lambda p: ["cp", p, target]}
        results = {name: [] for name in names}
        for _ in range(self.size.rounds):
            for name, argv_of in names.items():
                results[name].append(self.each(argv_of, agent.environment() if name == "walagent" else None))
        return results


def lab_lsn(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)
