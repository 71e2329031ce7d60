"""What is measured. Each case returns {program: [Figures of each round]}, walagent first, rounds interleaved."""
import collections
import os
import shutil
import time

import hook_cases
import measure
import peers
from lab_lib import lab

Size = collections.namedtuple("Size", "rounds scale wal_segments gets tables")
SEGMENT = 16 * 1024 * 1024
TEXT = """CREATE TABLE words AS SELECT i AS id, md5(i::text) || repeat(' lorem ipsum dolor sit amet', (i %% 7)::int) AS t
FROM generate_series(1, %d) AS i"""
NOISE = """CREATE TABLE noise AS SELECT i AS id, string_agg(md5(i || '-' || j), '') AS t
FROM generate_series(1, %d) AS i, generate_series(1, 8) AS j GROUP BY i"""  # hex digits: no better than half its size


class Bench(hook_cases.HookCases):
    """One PostgreSQL with data, one walagent repository, and the peers."""

    def __init__(self, scratch, build, size, level, jobs):
        self.scratch, self.size, self.level, self.jobs = scratch, size, level, jobs
        self.program = lab.install_program(os.path.join(scratch, "bin"), build)
        self.pg = lab.Postgres(os.path.join(scratch, "pg")).init()
        self.pg.configure(archive_mode="on", archive_command="true", max_wal_size="4GB", shared_buffers="256MB",
                          checkpoint_timeout="1h", wal_keep_size="0", autovacuum="off",
                          synchronous_commit="off")  # of what makes the data; nobody measures it
        self.log = os.path.join(scratch, "bench.log")
        self.peers, self.s3, self.agents = {}, None, []

    def __enter__(self):
        self.pg.start()
        self.pg.pgbench("-i", "-q", "-s", str(self.size.scale))
        self.pg.sql(TEXT % (self.size.scale * 20000))
        self.pg.sql(NOISE % (self.size.scale * 12000))
        self.pg.sql("CHECKPOINT")
        self.version = self.pg.value("SHOW server_version")
        self.data_bytes = measure.disk_bytes(os.path.join(self.pg.data, "base"))
        self.agent = self.new_agent("main")
        self.agent.run("init")
        return self

    def __exit__(self, *_):
        for agent in self.agents:  # a case that failed leaves its own running
            agent.kill9()
        self.pg.stop("immediate")
        if self.s3 is not None:
            self.s3.wipe()

    def new_agent(self, name, repository=None):
        repo = lab.make_dir(os.path.join(self.scratch, "repo-" + name))
        settings = {"archive.compression_level": self.level, "backup.compression_level": self.level,
                    "backup.jobs": self.jobs, "agent.log_level": "warning", "cluster.slot": "walagent_" + name}
        agent = lab.Walagent(os.path.join(self.scratch, "agent-" + name), self.program,
                             repository or {"url": "file://" + repo}, self.pg, name=name, settings=settings)
        agent.repo = repo
        self.agents.append(agent)
        return agent

    def drop_slot(self, name):
        self.pg.sql("SELECT pg_drop_replication_slot('walagent_%s')" % name)

    def peer(self, kind="plain"):
        """kind: plain | bundle | async | s3 | s3plain | s3async. Made when first asked for."""
        if kind not in self.peers:
            self.peers[kind] = peers.PgBackRest(os.path.join(self.scratch, "backrest-" + kind), self.pg, self.level,
                                                self.jobs, bundle=kind in ("bundle", "s3"),
                                                asynchronous=kind in ("async", "s3async"),
                                                s3=self.ceph() if kind.startswith("s3") else None)
        return self.peers[kind]

    def ceph(self):
        """Ceph's gateway, objects in memory; over TLS."""
        if self.s3 is None:
            # Room for every backup of every round: a store that is full keeps its clients waiting.
            self.s3 = lab.Ceph(os.path.join(self.scratch, "ceph"), env={"CEPH_BYTES": str(16 << 30)}).start()
        return self.s3

    def measure(self, argv, server=False, env=None, memory=True):
        return measure.measure(argv, self.pg.pid if server else None,
                               dict(os.environ, **(env or {})), log=self.log, memory=memory)

    def walagent(self, *argv, server=False):
        return self.measure(self.agent.command(*argv), server, self.agent.environment())

    # ---- backup ----

    def our_backup(self, source="remote"):
        """The agent runs beside it, as it does in life; its own processor time is small and not counted."""
        before = measure.disk_bytes(os.path.join(self.agent.repo, "main"))
        figures = self.walagent("backup", "-q", "--source", source, server=True)
        figures["stored"] = measure.disk_bytes(os.path.join(self.agent.repo, "main")) - before
        return figures

    def backrest_backup(self, kind):
        peer = self.peer(kind)
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
        programs = {"walagent": self.our_backup, "pgBackRest": lambda: self.backrest_backup("plain"),
                    "pgBackRest, bundled": lambda: self.backrest_backup("bundle"),
                    "pg_basebackup client-zstd:%d" % self.level: self.basebackup}
        return self.rounds(programs)

    def localbackup(self):
        """Read from the data directory, as pgBackRest does."""
        if not self.agent.is_running():
            self.agent.start()
        return self.rounds({"walagent": lambda: self.our_backup("local"),
                            "pgBackRest": lambda: self.backrest_backup("plain"),
                            "pgBackRest, bundled": lambda: self.backrest_backup("bundle")})

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

    def backrest_restore(self, kind):
        self.forget_restored()
        lab.make_dir(self.target, 0o700)
        return self.measure(self.peer(kind).argv("--pg1-path=" + self.target, "restore"))

    @property
    def target(self):
        return os.path.join(self.scratch, "restored")

    def forget_restored(self):
        """ext4 leaves inodes alone for five seconds after their end, and new files pay for the search around them."""
        if os.path.exists(self.target):
            shutil.rmtree(self.target)
            time.sleep(6)

    def restore(self):
        if not self.agent.json("list")["backups"]:
            self.backup()
        elif not os.path.exists(os.path.join(self.peer().repo, "backup", "bench", "latest")):
            self.backrest_backup("plain")
            self.backrest_backup("bundle")
        return self.rounds({"walagent": self.our_restore, "pgBackRest": lambda: self.backrest_restore("plain"),
                            "pgBackRest, bundled": lambda: self.backrest_restore("bundle")})

    # ---- the same with S3 ----

    def s3_agent(self):
        """Started; the archive in Ceph."""
        if getattr(self, "on_s3", None) is None:
            server = self.ceph()
            self.on_s3 = self.new_agent("s3", server.settings(server.make_bucket(), tls=True))
            self.on_s3.run("init")
        if not self.on_s3.is_running():
            self.on_s3.start()
        return self.on_s3

    def s3backup(self, source="remote"):
        """To Ceph over TLS. What is stored there is not counted."""
        agent = self.s3_agent()
        ours = agent.command("backup", "-q", "--source", source)
        programs = {"walagent": lambda: self.measure(ours, True, agent.environment())}
        kinds = {"pgBackRest, bundled": "s3"} if source == "remote" else {"pgBackRest": "s3plain", "pgBackRest, bundled": "s3"}
        for name, kind in kinds.items():
            programs[name] = lambda kind=kind: self.measure(self.peer(kind).argv("--type=full", "backup"), True)
        results = self.rounds(programs)
        agent.stop()
        return results

    def s3localbackup(self):
        """Read from the data directory, as pgBackRest does."""
        return self.s3backup("local")

    def s3restore(self):
        agent = self.s3_agent()
        if not agent.json("list")["backups"]:
            self.s3backup()

        def ours():
            self.forget_restored()
            return self.measure(agent.command("restore", "-q", "-D", self.target, "--jobs", str(self.jobs)),
                                env=agent.environment())
        results = self.rounds({"walagent": ours, "pgBackRest, bundled": lambda: self.backrest_restore("s3")})
        agent.stop()
        return results

    # ---- many small files ----

    def make_small_tables(self):
        """A file each, of one page; they stay in the cluster from then on. Made once."""
        if getattr(self, "has_small_tables", False):
            return
        for i in range(0, self.size.tables, 500):
            self.pg.sql("DO $$ BEGIN FOR i IN %d..%d LOOP EXECUTE format('CREATE TABLE small_%%s AS SELECT 1 AS id', i);"
                        " END LOOP; END $$" % (i + 1, min(i + 500, self.size.tables)))
        self.pg.sql("CHECKPOINT")
        sizes = [entry.stat().st_size for database in os.scandir(os.path.join(self.pg.data, "base"))
                 for entry in os.scandir(database.path)]
        print("%d files, of which %d have at most 16 kB" % (len(sizes), sum(size <= 16384 for size in sizes)))
        self.has_small_tables = True

    def small(self):
        """Backups of a database with many small tables."""
        if not self.agent.is_running():
            self.agent.start()
        self.make_small_tables()
        return self.rounds({"walagent": self.our_backup, "pgBackRest, bundled": lambda: self.backrest_backup("bundle")})

    def smallrestore(self):
        """Restores of the newest backup, which has them."""
        self.small()
        return self.rounds({"walagent": self.our_restore, "pgBackRest, bundled": lambda: self.backrest_restore("bundle")})

    def s3smallrestore(self):
        """The same from Ceph."""
        self.make_small_tables()
        self.s3backup()
        return self.s3restore()

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
        agent = self.waiting[name]
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
        done = self.pg.sql("SELECT coalesce(max(r.flush_lsn), '0/0')::text FROM pg_stat_replication r"
                           " JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = %s",
                           "walagent_" + agent.name)
        return lab_lsn(done[0][0])

    def receivewal(self, slot):
        target = lab.make_dir(os.path.join(self.scratch, "receivewal"))
        figures = self.measure([os.path.join(self.pg.bin, "pg_receivewal"), "-h", self.pg.dir, "-p", str(self.pg.port),
                                "-U", "postgres", "-D", target, "-S", slot, "--endpos", before(self.pg.lsn()),
                                "--no-loop"],
                               server=True)
        figures["stored"] = measure.disk_bytes(target)
        shutil.rmtree(target)
        return figures

    def catchup(self):
        self.agent.stop()
        self.waiting = {}
        slots = []
        for i in range(self.size.rounds):
            name = "catchup%d" % i
            self.waiting[name] = self.new_agent(name)
            self.waiting[name].run("init")
            slots.append("receivewal%d" % i)
            self.pg.add_slot(slots[-1])
        self.make_wal(self.size.wal_segments)
        results = {"walagent": [], "pg_receivewal": []}
        for i in range(self.size.rounds):
            os.sync()
            results["walagent"].append(self.our_catchup("catchup%d" % i))
            os.sync()
            results["pg_receivewal"].append(self.receivewal(slots[i]))
        for name, agent in self.waiting.items():
            self.pg.sql("SELECT pg_drop_replication_slot('walagent_%s')" % name)
        for slot in slots:
            self.pg.sql("SELECT pg_drop_replication_slot('%s')" % slot)
        return results


def before(lsn):
    """The byte before: pg_receivewal ends when it has more than --endpos, and an idle server never sends more."""
    number = lab_lsn(lsn) - 1
    return "%X/%X" % (number >> 32, number & 0xFFFFFFFF)


def lab_lsn(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)
