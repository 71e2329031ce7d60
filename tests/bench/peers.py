"""The programs that walagent is compared with: pgBackRest, pg_basebackup, pg_receivewal, cp.

Each has its own repository and settings for the same level and the same number of processes.
"""
import os
import shutil
import subprocess

from lab_lib import lab


class PgBackRest:
    """pgBackRest 2.60 with one stanza; `bundle`: small files in bundles; `s3`: a lab.S3Server's bucket."""

    def __init__(self, directory, postgres, level, processes, bundle=False, asynchronous=False, s3=None):
        self.dir = lab.make_dir(directory)
        self.repo = lab.make_dir(os.path.join(directory, "repo"))
        self.postgres = postgres
        self.program = pgbackrest()
        self.config = os.path.join(directory, "pgbackrest.conf")
        for name in ("spool", "log", "lock"):
            lab.make_dir(os.path.join(directory, name))
        self.spool = os.path.join(directory, "spool")
        self.bucket = s3.make_bucket() if s3 else None
        lines = ["[global]", "repo1-path=" + (self.repo if s3 is None else "/backrest"), "repo1-retention-full=9", "compress-type=zst",
                 "compress-level=%d" % level, "process-max=%d" % processes, "log-level-console=warn",
                 "log-level-file=off", "log-path=%s/log" % directory, "lock-path=%s/lock" % directory,
                 "spool-path=%s/spool" % directory, "start-fast=y", "archive-check=n", "archive-copy=n",
                 "archive-get-queue-max=1GiB", "repo1-bundle=%s" % ("y" if bundle else "n"), "archive-async=%s" % ("y" if asynchronous else "n"),
                 *(self.s3_lines(s3) if s3 else ()), "[bench]", "pg1-path=" + postgres.data, "pg1-port=%d" % postgres.port,
                 "pg1-socket-path=" + postgres.dir, "pg1-user=postgres"]
        lab.write_file(self.config, "\n".join(lines) + "\n")
        lab.run(self.argv("stanza-create"))

    def s3_lines(self, server):
        host, _, port = server.tls_endpoint.partition("://")[2].partition(":")
        return ["repo1-type=s3", "repo1-s3-bucket=" + self.bucket, "repo1-s3-endpoint=" + host,
                "repo1-storage-port=" + port, "repo1-s3-uri-style=path", "repo1-s3-region=" + server.region,
                "repo1-s3-key=" + server.access_key, "repo1-s3-key-secret=" + server.secret_key,
                "repo1-storage-ca-file=" + server.ca]

    def argv(self, *words):
        return [self.program, "--config=" + self.config, "--stanza=bench", *words]

    def clear(self):
        """An empty repository again."""
        for name in ("backup", "archive"):
            shutil.rmtree(os.path.join(self.repo, name), ignore_errors=True)
        self.forget_prefetched()
        lab.run(self.argv("stanza-create"))

    def forget_prefetched(self):
        shutil.rmtree(os.path.join(self.spool, "archive"), ignore_errors=True)


def pgbackrest():
    """Brought in from Debian when it isn't there."""
    program = os.path.join(lab.LAB, "peers", "pgbackrest", "bin", "pgbackrest")
    if not os.path.exists(program):
        subprocess.run([os.path.join(lab.SCRIPTS, "pg-majors"), "pgbackrest"], check=True, timeout=600,
                       stdin=subprocess.DEVNULL, env=dict(os.environ, LAB=lab.LAB))
    return program
