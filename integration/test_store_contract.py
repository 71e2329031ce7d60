"""Every promise of the object store against real S3 servers (see tests/unit/store)."""
import os
import re

import pytest

import lab


def run_contract(server, tls):
    program = os.path.join(lab.BUILD, "tests", "store-contract")
    bucket = server.make_bucket()
    done = lab.run([program, "s3://%s/contract" % bucket], check=None, timeout=600, user=False,
                   env=server.environment(tls))
    last = done.stdout.strip().splitlines()[-1:]
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"[1-9]\d* passed, 0 failed", last[0])
    assert server.client.keys(bucket) == []
    return done.stdout


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_ceph_keeps_the_contract(ceph, tls):
    assert "conditional put yes" in run_contract(ceph, tls)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_swift_keeps_the_contract_without_conditional_put(swift, tls):
    assert "conditional put no" in run_contract(swift, tls)
