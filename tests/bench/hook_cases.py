"""Cases of the hooks: single calls, calls in a row with whatever each program runs beside them, and a
PostgreSQL that replays.

The rows call the hooks the way the server does: one after the other, in a directory that looks to them like
pg_wal with its archive_status, and like a data directory in recovery.
"""
import glob
import os
import re
import shutil
import time

import measure
from lab_lib import lab

REDO = re.compile(r"redo done at \S+ system usage: CPU: user: ([\d.]+) s, system: ([\d.]+) s, elapsed: ([\d.]+) s")


class HookCases:
    """Mixed into Bench, whose server, scratch directory and agents it uses."""

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
        return [os.path.join(directory, n) for n in sorted(os.listdir(directory)) if len(n) == 24]

    # ---- single calls ----

    def each(self, argv_of, env=None):
        """One call a segment, each on its own; the median call is `wall`. Every eighth is for its memory only."""
        runs = [self.measure(argv_of(path), env=env, memory=i % 8 == 0) for i, path in enumerate(self.saved_wal())]
        sampled, timed = runs[::8], [r for i, r in enumerate(runs) if i % 8 != 0]
        timed.sort(key=lambda r: r["wall"])
        return measure.Figures(wall=timed[len(timed) // 2]["wall"], cpu=sum(r["cpu"] for r in timed) / len(timed),
                               memory=max(r["memory"] for r in sampled))

    def push(self):
        """Single calls without an agent, each to a repository that has not seen the segment."""
        self.agent.stop()
        results = {"walagent": [], "pgBackRest": []}
        for i in range(self.size.rounds):
            agent = self.new_agent("push%d" % i)
            agent.run("init", "--no-slot")
            results["walagent"].append(self.each(lambda p: agent.command("archive-push", p),  # noqa: B023
                                                 agent.environment()))
            self.peer().clear()
            results["pgBackRest"].append(self.each(lambda p: self.peer().argv("archive-push", p)))
        return results

    def get(self):
        """Single calls without an agent; cp stands for a file that is there already."""
        agent = self.archived()
        target = os.path.join(lab.make_dir(os.path.join(self.scratch, "got")), "segment")
        names = {"walagent": lambda p: agent.command("archive-get", os.path.basename(p), target),
                 "pgBackRest": lambda p: self.peer().argv("archive-get", os.path.basename(p), target),
                 "cp": lambda p: ["cp", p, target]}
        results = {name: [] for name in names}
        for _ in range(self.size.rounds):
            for name, argv_of in names.items():
                results[name].append(self.each(argv_of, agent.environment() if name == "walagent" else None))
        return results

    # ---- one call after the other, with what runs beside them ----

    def archived(self):
        """The saved segments in the repositories of both; an agent that isn't running."""
        if not getattr(self, "archived_agent", None):
            self.archived_agent = self.new_agent("archived")
            self.archived_agent.run("init", "--no-slot")
            self.peer().clear()
            for path in self.saved_wal():
                self.archived_agent.run("archive-push", path)
                lab.run(self.peer().argv("archive-push", path))
        return self.archived_agent

    def in_a_row(self, argvs, env, cwd, after, agent_pid=None, before_call=None):
        """All calls; what they left running is ended then, and its processor time counted (we are its reaper, see
        lab)."""
        before, children = measure.cpu_of_children(), measure.children(os.getpid())
        agent_before = measure.cpu_seconds(agent_pid) if agent_pid else 0
        durations = []
        peak = measure.Peak(agent_pid) if agent_pid else None
        started = time.monotonic()
        for argv, path in argvs:
            if before_call:
                before_call(path)
            durations.append(measure.call(argv, dict(os.environ, **(env or {})), cwd, self.log))
            after(path)
        wall = time.monotonic() - started
        memory = peak.stop() if peak else None
        measure.reap_others(set(children))
        cpu = measure.cpu_of_children() - before
        if agent_pid:
            cpu += measure.cpu_seconds(agent_pid) - agent_before
        durations.sort()
        return measure.Figures(wall=wall, cpu=cpu, memory=memory, call=durations[len(durations) // 2])

    def data_directory(self, name):
        """What a hook needs of a data directory, anew."""
        directory = os.path.join(self.scratch, name)
        shutil.rmtree(directory, ignore_errors=True)
        lab.make_dir(os.path.join(lab.make_dir(directory), "pg_wal"))
        lab.write_file(os.path.join(directory, "PG_VERSION"), "15\n")
        control = os.path.join(lab.make_dir(os.path.join(directory, "global")), "pg_control")
        shutil.copy2(os.path.join(self.pg.data, "global", "pg_control"), control)
        lab.own(control)
        return directory

    def ready_directory(self):
        """The saved segments as the archiver finds them: in pg_wal, each with its .ready file."""
        directory = self.data_directory("ready")
        wal = os.path.join(directory, "pg_wal")
        status = lab.make_dir(os.path.join(wal, "archive_status"))
        for path in self.saved_wal():
            os.link(path, os.path.join(wal, os.path.basename(path)))
            lab.write_file(os.path.join(status, os.path.basename(path) + ".ready"), "")
        return directory

    def push_row(self, argv_of, env=None, agent_pid=None):
        """archive_command for each, and .done after it, as the archiver does."""
        directory = self.ready_directory()

        def done(path):
            status = os.path.join(directory, "pg_wal", "archive_status", os.path.basename(path))
            os.rename(status + ".ready", status + ".done")
        calls = [(argv_of("pg_wal/" + os.path.basename(p)), p) for p in self.saved_wal()]
        return self.in_a_row(calls, env, directory, done, agent_pid)

    def our_backlog(self, name):
        agent = self.new_agent(name)
        agent.run("init")
        agent.start()
        figures = self.push_row(lambda p: agent.command("archive-push", p), agent.environment(), agent.process.pid)
        agent.stop()
        self.drop_slot(name)
        return figures

    def backrest_backlog(self):
        peer = self.peer("async")
        peer.clear()
        return self.push_row(lambda p: peer.argv("--pg1-path=" + os.path.join(self.scratch, "ready"), "archive-push", p))

    def backlog(self):
        """Segments that wait in pg_wal, through archive_command in a row, the agent beside it. The agent's
        slot begins behind them: it has not streamed one."""
        self.agent.stop()
        self.saved_wal()
        self.pg.sql("CHECKPOINT")  # a slot begins where the last one does: behind what was saved
        results = {"walagent": [], "pgBackRest, async": []}
        for i in range(self.size.rounds):
            results["walagent"].append(self.our_backlog("backlog%d" % i))
            results["pgBackRest, async"].append(self.backrest_backlog())
        return results

    def recovering_directory(self):
        """What archive-get takes for a data directory in recovery."""
        directory = self.data_directory("recovering")
        lab.write_file(os.path.join(directory, "standby.signal"), "")
        return directory

    def one_get_row(self, argv_of, env=None, before_call=None):
        directory = self.recovering_directory()
        return self.in_a_row([(argv_of(p), p) for p in self.saved_wal()], env, directory,
                             lambda p: os.unlink(os.path.join(directory, "pg_wal", "RECOVERYXLOG")),
                             before_call=before_call)

    def prefetched(self):
        """Single calls of restore_command for a segment that has been fetched ahead, no agent; cp stands for a file
        that is there, and `true` for what starting any program costs here, which is part of all three. The median call
        is `wall`; `cpu` is a call's share of everything, the prefetcher included."""
        agent = self.archived()
        ahead = os.path.join(self.scratch, "recovering", "pgsql_tmp_walagent", "pgsql_tmp_")
        first, to = self.saved_wal()[0], "pg_wal/RECOVERYXLOG"

        def is_there(path):
            if path != first:  # that one's call begins the fetching ahead
                lab.wait_until(lambda: os.path.exists(ahead + os.path.basename(path)) and not glob.glob(ahead + "*.new"),
                               60, "%s is fetched ahead, and nothing is being fetched" % os.path.basename(path))
        results = {"walagent": [], "cp": [], "true": []}
        for _ in range(self.size.rounds):
            results["walagent"].append(self.one_get_row(
                lambda p: agent.command("archive-get", os.path.basename(p), to), agent.environment(), is_there))
            results["cp"].append(self.one_get_row(lambda p: ["cp", p, to]))
            results["true"].append(self.in_a_row([(["true"], p) for p in self.saved_wal()], None, "/", lambda p: None))
        for runs in results.values():
            for run in runs:
                run.update(wall=run.pop("call"), cpu=run["cpu"] / len(self.saved_wal()))
        return results

    def getrow(self):
        """restore_command in a row, prefetching included; no agent."""
        agent = self.archived()
        background = self.peer("async")
        if not getattr(self, "background_filled", False):
            background.clear()
            for path in self.saved_wal():
                lab.run(background.argv("--no-archive-async", "archive-push", path))
            self.background_filled = True
        to = "pg_wal/RECOVERYXLOG"
        results = {"walagent": [], "pgBackRest, async": [], "cp": []}
        for _ in range(self.size.rounds):
            results["walagent"].append(self.one_get_row(
                lambda p: agent.command("archive-get", os.path.basename(p), to), agent.environment()))
            background.forget_prefetched()
            results["pgBackRest, async"].append(self.one_get_row(
                lambda p: background.argv("--pg1-path=" + os.path.join(self.scratch, "recovering"), "archive-get",
                                          os.path.basename(p), to)))
            results["cp"].append(self.one_get_row(lambda p: ["cp", p, to]))
        return results

    # ---- replay ----

    def replay_of(self, name, command=None):
        """A copy of the server before the WAL was made, recovered from it; the server's own figures of the redo."""
        server = lab.Postgres(os.path.join(self.scratch, "replay"))
        shutil.rmtree(server.data, ignore_errors=True)
        lab.run(["cp", "-a", "--reflink=auto", self.replay_base, server.data], timeout=600)
        server.configure(restore_command=command or "false", recovery_target_action="promote",
                         recovery_target_name="end", hot_standby="off", max_wal_size="16GB",
                         checkpoint_timeout="1h", archive_mode="off")
        if command is None:
            for path in self.replay_wal:
                shutil.copy2(path, os.path.join(server.data, "pg_wal"))
                lab.own(os.path.join(server.data, "pg_wal", os.path.basename(path)))
        lab.write_file(os.path.join(server.data, "recovery.signal"), "")
        os.sync()
        if os.path.exists(server.log_path):
            os.unlink(server.log_path)
        server.start(timeout=1800, check=False)
        lab.wait_until(lambda: REDO.search(server.log) or not server.is_running(), 1800, "%s: recovery ends" % name)
        assert REDO.search(server.log), "%s: recovery failed:\n%s" % (name, server.log[-3000:])
        server.stop("immediate")
        user, system, elapsed = (float(n) for n in REDO.search(server.log).groups())
        return measure.Figures(wall=elapsed, cpu=user + system)

    def prepare_replay(self):
        """A copy of the server, then WAL up to a restore point, kept in a plain directory; made once."""
        if getattr(self, "replay_base", None):
            return
        self.replay_base = os.path.join(self.scratch, "replay-base")
        self.pg.tool("pg_basebackup", "-h", self.pg.dir, "-p", str(self.pg.port), "-U", "postgres", "-D",
                     self.replay_base, "-c", "fast", "-X", "fetch", timeout=1800)
        self.pg.sql("SELECT pg_create_physical_replication_slot('replay', true)")
        first = self.pg.value("SELECT pg_walfile_name(redo_lsn) FROM pg_control_checkpoint()")
        self.make_wal(self.size.wal_segments)
        self.pg.sql("SELECT pg_create_restore_point('end')")
        last = self.pg.switch_wal()
        wal = os.path.join(self.pg.data, "pg_wal")
        kept = lab.make_dir(os.path.join(self.scratch, "replay-wal"))
        self.replay_wal = []
        for name in sorted(n for n in os.listdir(wal) if len(n) == 24 and first <= n <= last):
            shutil.copy2(os.path.join(wal, name), kept)
            lab.own(os.path.join(kept, name))
            self.replay_wal.append(os.path.join(kept, name))
        self.pg.sql("SELECT pg_drop_replication_slot('replay')")

    def replay(self):
        """PostgreSQL's recovery of the same WAL from each archive, from a directory, and from pg_wal itself."""
        peer = self.peer("async")
        peer.clear()
        self.background_filled = False
        return self.replay_from(self.new_agent("replay"), peer)

    def s3replay(self):
        """The same with both archives in Ceph, over TLS."""
        server = self.ceph()
        return self.replay_from(self.new_agent("s3replay", server.settings(server.make_bucket(), tls=True)),
                                self.peer("s3async"))

    def replay_from(self, agent, peer):
        """Both archives are empty."""
        self.prepare_replay()
        agent.run("init", "--no-slot")
        for path in self.replay_wal:
            agent.run("archive-push", path)
            lab.run(peer.argv("--no-archive-async", "archive-push", path))
        ours = "WALAGENT_CONFIG=%s %s" % (agent.config_path, " ".join(agent.command("archive-get", "%f", "%p")))
        # Its own pg1-path is the live server's; the copy's directory is the working directory.
        theirs = " ".join(peer.argv("--pg1-path=" + os.path.join(self.scratch, "replay", "data"), "archive-get",
                                    "%f", '"%p"'))
        commands = {"walagent": ours, "pgBackRest, async": theirs,
                    "cp": "cp %s/%%f %%p" % os.path.dirname(self.replay_wal[0]), "already in pg_wal": None}
        results = {name: [] for name in commands}
        for i in range(self.size.rounds):
            for name in list(commands) if i % 2 == 0 else reversed(list(commands)):  # behind another one each time
                peer.forget_prefetched()
                results[name].append(self.replay_of(name, commands[name]))
        return results
