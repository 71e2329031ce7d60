"""The programs that walagent is compared with: pgBackRest, pg_basebackup, pg_receivewal, cp.

Each has its own repository and settings for the same level and the same number of processes.
"""
import os
import shutil
import subprocess

from lib import lab


class PgBackRest:
    """pgBackRest 2.60 with one stanza; `bundle`: small files in bundles."""

    def __init__(self, directory, postgres, level, processes, bundle=False, asynchronous=False):
        self.dir = lab.make_dir(directory)
        self.repo = lab.make_dir(os.path.join(directory, "repo"))
        self.postgres = postgres
        self.program = pgbackrest()
        self.config = os.path.join(directory, "pgbackrest.conf")
        for name in ("spool", "log", "lock"):
            lab.make_dir(os.path.join(directory, name))
        lines = ["[global]", "repo1-path=" + self.repo, "repo1-retention-full=9", "compress-type=zst",
                 "compress-level=%d" % level, "process-max=%d" % processes, "log-level-console=warn",
                 "log-level-file=off", "log-path=%s/log" % directory, "lock-path=%s/lock" % directory,
                 "spool-path=%s/spool" % directory, "start-fast=y", "archive-check=n", "archive-copy=n",
                 "repo1-bundle=%s" % ("y" if bundle else "n"), "archive-async=%s" % ("y" if asynchronous else "n"),
                 "[bench]", "pg1-path=" + postgres.data, "pg1-port=%d" % postgres.port,
                 "pg1-socket-path=" + postgres.dir, "pg1-user=postgres"]
        lab.write_file(self.config, "\n".join(lines) + "\n")
        lab.run(self.argv("stanza-create"))

    def argv(self, *words):
        return [self.program, "--config=" + self.config, "--stanza=bench", *words]

    def clear_backups(self):
        shutil.rmtree(os.path.join(self.repo, "backup"), ignore_errors=True)
        shutil.rmtree(os.path.join(self.repo, "archive"), ignore_errors=True)
        lab.run(self.argv("stanza-create"))


def pgbackrest():
    """Brought in from Debian when it isn't there."""
    program = os.path.join(lab.LAB, "peers", "pgbackrest", "bin", "pgbackrest")
    if not os.path.exists(program):
        subprocess.run([os.path.join(lab.SCRIPTS, "pg-majors"), "pgbackrest"], check=True, timeout=600,
                       stdin=subprocess.DEVNULL, env=dict(os.environ, LAB=lab.LAB))
    return program
