"""Real S3 servers for the tests, as pytest fixtures: `ceph` and `swift`.

WALAGENT_TEST_CEPH and WALAGENT_TEST_SWIFT describe one that runs already ("endpoint=... access_key=...
secret_key=...", what the scripts print, with spaces between); otherwise a script in servers/ starts one for the
session. Swift only with WALAGENT_TEST_SERVERS=all.
"""
import os
import pathlib
import subprocess
import uuid

import pytest

SERVERS = pathlib.Path(__file__).resolve().parent.parent / "servers"
BUILD = pathlib.Path(os.environ.get("WALAGENT_BUILD",
                                    pathlib.Path(__file__).resolve().parents[2] / "build" / "dev"))


class S3Server:
    def __init__(self, facts):
        self.endpoint, self.tls_endpoint = facts["endpoint"], facts.get("tls_endpoint")
        self.ca = facts.get("ca")
        self.access_key, self.secret_key = facts["access_key"], facts["secret_key"]
        self.bucket = "wa-" + uuid.uuid4().hex[:12]

    def env(self, endpoint=None, **more):
        """The environment for store-tool, store-contract and walagent; no keys or CAs from outside."""
        env = {k: v for k, v in os.environ.items()
               if not k.startswith(("AWS_", "WALAGENT_")) and not k.lower().endswith("_proxy")}
        env.update({"AWS_EC2_METADATA_DISABLED": "true",
                    "WALAGENT_REPOSITORY_S3_ENDPOINT": endpoint or self.endpoint,
                    "WALAGENT_REPOSITORY_S3_ACCESS_KEY_ID": self.access_key,
                    "WALAGENT_REPOSITORY_S3_SECRET_ACCESS_KEY": self.secret_key})
        env.update(more)
        return {k: v for k, v in env.items() if v is not None}

    def aws(self, *args):
        env = dict(os.environ, AWS_ACCESS_KEY_ID=self.access_key, AWS_SECRET_ACCESS_KEY=self.secret_key,
                   AWS_DEFAULT_REGION="us-east-1")
        done = subprocess.run(["aws", "--endpoint-url", self.endpoint, *args], env=env, text=True,
                              capture_output=True, check=True)
        return done.stdout


def _serve(script, variable, port):
    given = os.environ.get(variable)
    command = [str(SERVERS / script), "start", str(port)]
    text = "" if given else subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    facts = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if given:
        facts = dict(item.split("=", 1) for item in given.split())
    server = S3Server(facts)
    server.aws("s3api", "create-bucket", "--bucket", server.bucket)
    yield server
    if not given:
        subprocess.run([str(SERVERS / script), "stop", str(port)], check=True)


@pytest.fixture(scope="session")
def ceph():
    yield from _serve("ceph-rgw.sh", "WALAGENT_TEST_CEPH", 9100)


@pytest.fixture(scope="session")
def swift():
    if os.environ.get("WALAGENT_TEST_SERVERS") != "all" and "WALAGENT_TEST_SWIFT" not in os.environ:
        pytest.skip("the second S3 server is tested with --servers")
    yield from _serve("swift-s3.sh", "WALAGENT_TEST_SWIFT", 9200)
