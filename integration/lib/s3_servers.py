"""The session's S3 servers (conftest.py) with a bucket of the test module's own, and the ways of its tests.

Import `ceph` and `swift` into a test module: there they stand for the session's fixtures of the same names.
"""
import os
import pathlib
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("WALAGENT_BUILD",
                                    pathlib.Path(__file__).resolve().parents[2] / "build" / "dev"))


class BucketOn:
    """One fresh bucket on a running server of lab.py."""

    def __init__(self, server):
        self.endpoint, self.tls_endpoint, self.ca = server.endpoint, server.tls_endpoint, server.ca
        self.access_key, self.secret_key = server.access_key, server.secret_key
        self.bucket = server.make_bucket()

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


@pytest.fixture(scope="session")
def ceph(ceph):
    return BucketOn(ceph)


@pytest.fixture(scope="session")
def swift(swift):
    return BucketOn(swift)
