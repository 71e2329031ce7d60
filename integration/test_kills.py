"""The agent is killed at random moments under load, again and again. What the server was told is
durable must be in the archive at once, before the agent comes back and could stream it again."""
import os
import random
import time

import pytest

from test_stream import MIB, Load, keeping, make_streamer, restart_lsn  # noqa: F401


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.long)])
def test_random_kills_lose_nothing_acknowledged(keeping, make_streamer, kills):
    seed = int(os.environ.get("WALAGENT_SEED") or random.randrange(1 << 32))
    print("WALAGENT_SEED=%d" % seed)
    rng = random.Random(seed)
    agent = make_streamer(keeping, tail_interval_ms=100).start()
    agent.wait(lambda st: st["state"] == "streaming")
    load = Load(keeping, seconds=kills * 60)
    agent.wait_durable(keeping)
    branch, told, moved = agent.lineage()[0][0], 0, 0
    for n in range(kills):
        time.sleep(rng.uniform(0, 1.2))
        if n % 2:  # how far it has got by then depends on the machine
            agent.wait(lambda st: restart_lsn(keeping) > told, 15, "the slot moves")
        agent.kill9()
        now = restart_lsn(keeping)
        agent.assert_identical(keeping, branch, now, since=max(told - MIB, 0))
        moved += now > told
        told = now
        agent.start()
    agent.wait(lambda st: st["state"] == "streaming")
    load.stop()
    end = agent.wait_durable(keeping, 60)
    agent.stop()
    assert moved > kills / 4, "the slot hardly moved: %d" % moved
    agent.assert_identical(keeping, branch, end)
