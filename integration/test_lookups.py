"""archive-get by the agent while the store is silent: nobody waits longer than he said, and no thread for nobody."""
import os
import shutil
import signal
import subprocess

import lab
from lib.fault_proxy import FaultProxy
from test_hooks import archive, switch


def hook_threads(pid):
    names = []
    for task in os.listdir("/proc/%d/task" % pid):
        try:
            names.append(lab.read_file("/proc/%d/task/%s/comm" % (pid, task)).strip())
        except OSError:
            pass  # it ended meanwhile
    return names.count("hook")


def test_a_silent_store_holds_up_nobody(make_pg, make_walagent, s3_repository, work_dir):
    pg = make_pg(start=False)
    with FaultProxy(s3_repository["s3_endpoint"]) as proxy:
        walagent = make_walagent(dict(s3_repository, s3_endpoint=proxy.url), pg,
                                 settings={"archive.get_timeout": "5s"})
        pg.start()
        walagent.run("init")
        pg.stop()
        archive(pg, walagent)
        walagent.start()
        name = switch(pg)
        alone = lab.make_dir(work_dir + "/alone")  # the front alone: the answer is the agent's
        shutil.copy(os.path.join(walagent.program, "walagent"), alone)
        data = lab.make_dir(work_dir + "/data")
        lab.make_dir(data + "/pg_wal")
        lab.write_file(data + "/standby.signal", "")
        absent = "0000000100000AAA00000001"
        argv = [alone + "/walagent", "archive-get", absent, "pg_wal/RECOVERYXLOG"]
        env = walagent.environment()
        for command, answer in ((argv[:2] + [name, argv[3]], 0), (argv, 1)):  # a slow store may need another
            lab.wait_until(lambda: lab.run(command, cwd=data, env=env, check=(answer, 4)).returncode == answer,
                           30, "the store answers")
        walagent.expect("")  # the streamer meets the silence too
        proxy.add("stall", method="GET", times=100000, seconds=120)
        proxy.add("stall", method="HEAD", times=100000, seconds=120)
        refused = lab.run(argv, cwd=data, env=env, check=4)
        assert "did not answer within 5.0 s" in refused.stderr
        # in point-in-time recovery it would wait for ten minutes: until the server is stopped
        pid = walagent.json("status")["pid"]
        lab.wait_until(lambda: hook_threads(pid) == 0, 30, "the look-up has ended")
        os.rename(data + "/standby.signal", data + "/recovery.signal")
        client = subprocess.Popen(lab.as_user(argv), cwd=data, env=dict(os.environ, **env),
                                  start_new_session=True)
        lab.wait_until(lambda: hook_threads(pid) == 1, 30, "the look-up runs")
        os.killpg(client.pid, signal.SIGKILL)
        client.wait(30)
        lab.wait_until(lambda: hook_threads(pid) == 0, 30, "the look-up has ended")
