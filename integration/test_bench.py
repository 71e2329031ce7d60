"""The bench runs: every case to its end, with walagent and with its peers. No figure is compared with another."""
import json
import os
import subprocess
import sys

import lab

CASES = {"backup", "localbackup", "restore", "s3backup", "s3localbackup", "s3restore", "catchup", "push", "get",
         "backlog", "getrow", "prefetched", "replay", "s3replay", "small", "smallrestore", "s3smallrestore"}


def test_every_case_of_the_bench_completes_and_measures(work_dir):
    figures = os.path.join(work_dir, "figures.json")
    done = subprocess.run([sys.executable, os.path.join(lab.ROOT, "tests", "bench", "run"), "--small", "--build",
                           lab.BUILD, "--json", figures], stdin=subprocess.DEVNULL, text=True, timeout=1200,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ, LAB=lab.LAB))
    assert done.returncode == 0, done.stdout[-8000:]
    with open(figures, encoding="utf-8") as f:
        results = json.load(f)
    assert set(results) == CASES
    for case, programs in results.items():
        assert len(programs) >= 2 and next(iter(programs)) == "walagent", case
        for program, runs in programs.items():
            assert runs, (case, program)
            for run in runs:
                assert run["wall"] > 0 and run["cpu"] > 0, (case, program, run)
                if case in ("backup", "localbackup", "catchup"):  # a short call may end between two looks at its memory
                    assert run["memory"] > 0 and run["stored"] > 0, (case, program, run)
