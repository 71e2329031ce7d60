"""Restore by hand: the scripts of docs/howto-restore-by-hand.md, run as they stand there."""
import glob
import os
import re

import lab


def script(name):
    text = lab.read_file(os.path.join(lab.ROOT, "docs", "howto-restore-by-hand.md"))
    found = re.search(r"```sh script=%s\n(.*?)```" % name, text, re.S)
    assert found, "the how-to has no script \"%s\"" % name
    return found.group(1)


def archive_of(repo_url, cluster="main"):
    """The directory of the cluster's only system identifier."""
    root = os.path.join(repo_url[len("file://"):], cluster)
    found = [d for d in os.listdir(root) if d.isdigit()]
    assert len(found) == 1, found
    return os.path.join(root, found[0])


def restore(archive, label, directory, major=15):
    """Files, WAL and settings; returns the server, not started."""
    server = lab.Postgres(directory, major)
    env = {"ARCHIVE": archive, "LABEL": label, "DIR": server.data,
           "TABLESPACES": os.path.join(server.dir, "tablespaces")}
    lab.run(["bash", "-c", script("files")], env=env)
    server.tool("pg_verifybackup", "-n", "-q", server.data)
    branches = sorted(os.path.basename(d) for kind in ("wal", "tail")
                      for d in glob.glob("%s/%s/*" % (archive, kind)))
    fetch = os.path.join(server.dir, "fetch")
    lab.write_file(fetch, script("fetch").replace("@ARCHIVE@", archive)
                   .replace("@BRANCH@", branches[-1]), 0o755)
    lab.run(["bash", "-c", script("settings")], env={"DIR": server.data, "FETCH": fetch})
    return server
