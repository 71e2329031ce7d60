"""The main job from init to a checked archive, and the agent: HTTP, signals, systemd, reload."""
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket

import pytest

import lab
from fault_proxy import FaultProxy
from test_backup import backup, durable, end_of, follow, is_ready, labels, wa_popen


@pytest.fixture(params=["file", "s3"])
def repository(request):
    return request.getfixturevalue(request.param + "_repository")


def objects(wa, pattern):
    """Files of a directory repository, without public facts."""
    root = os.path.join(wa.sections["repository"]["url"][len("file://"):], wa.name, "*")
    return sorted(f for f in glob.glob(os.path.join(root, pattern), recursive=True)
                  if os.path.isfile(f) and not f.endswith(".meta"))


def flip(path, offset=None):
    """One bit, in the middle unless told."""
    with open(path, "r+b") as f:
        size = os.path.getsize(path)
        at = size // 2 if offset is None else offset % size
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 0x10]))


def archived(pg, wa, segments=4):
    """Some whole segments, and a backup before them."""
    info = backup(wa)
    for i in range(segments):
        pg.sql("CREATE TABLE a%d AS SELECT generate_series(1, 1000) AS i" % i)
        pg.switch_wal()
    durable(wa, pg)
    lab.wait_until(lambda: len(objects(wa, "wal/**")) >= segments, 30, "segments are whole")
    return info


# ---- the whole way ----

def test_from_nothing_to_a_checked_archive(make_pg, major, make_walagent, repository):
    pg = make_pg(major, start=False)
    wa = make_walagent(repository, pg)
    push = "%s archive-push -c %s %%p" % (wa.command()[0], wa.config_path)
    pg.configure(archive_mode="on", archive_command=push, max_slot_wal_keep_size="1GB")
    pg.start()
    pg.sql("CREATE ROLE walagent LOGIN REPLICATION")
    pg.sql("GRANT pg_monitor TO walagent")
    wa.set("cluster.conninfo", pg.conninfo(user="walagent"))
    first = wa.json("init")
    assert first["created"] and first["slot_created"]
    assert first["system_identifier"] == pg.system_identifier and first["major"] == major
    again = wa.json("init")
    assert not again["created"] and not again["slot_created"]
    follow(wa)
    pg.pgbench("-i", "-s", "2", "-q")
    info = backup(wa)
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    segment = pg.switch_wal()
    lab.wait_until(lambda: pg.value("SELECT archived_count FROM pg_stat_archiver") > 0
                   and pg.value("SELECT last_archived_wal FROM pg_stat_archiver") >= segment, 60,
                   "archive_command archives")
    assert pg.value("SELECT failed_count FROM pg_stat_archiver") == 0
    durable(wa, pg)
    found = wa.json("check")
    assert found["failed"] == 0, found
    listed = wa.json("list")
    assert [b["label"] for b in listed["backups"]] == [info["label"]]
    assert listed["backups"][0]["usable"] and listed["hole_count"] == 0
    window, = listed["windows"]
    assert window["accepted"] and window["begin_lsn"] == info["end_lsn"] and window["end_time"]
    assert wa.run("list", "--require", "no-hole").returncode == 0
    assert wa.run("list", "--require", "2001-01-01 00:00:00+00", check=3)
    result = wa.json("verify")
    assert result["damage"] == [] and result["backups"] == 1 and result["segments"] > 0
    assert result["files"] == info["regular_files"] > 900 and result["records"] > 1000
    assert listed["backups"][0]["regular_files"] == result["files"] < info["files"]
    second = wa.json("verify", "--since", "verified")
    assert second["skipped_segments"] > 0 and second["damage"] == []
    assert second["segments"] + second["skipped_segments"] >= result["segments"]


def promoted(server):
    lab.wait_until(lambda: server.value("SELECT pg_is_in_recovery()") is False, 60, "promoted")
    return server


def test_a_table_comes_back_and_a_replica_follows(make_pg, major, make_walagent, repository,
                                                  work_dir):
    pg = make_pg(major)
    wa = follow(make_walagent(repository, pg))
    backup(wa)
    pg.sql("CREATE TABLE ledger AS SELECT generate_series(1, 1000) AS i")
    moment = pg.value("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC',"
                      " 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    pg.sql("SELECT pg_sleep(0.01)")
    pg.sql("DROP TABLE ledger")
    durable(wa, pg)
    copy = lab.Postgres(work_dir + "/copy", major)
    wa.run("restore", "-D", copy.data, "--to-time", moment)
    copy.tool("pg_verifybackup", "-n", "-q", copy.data)
    make_pg.adopt(copy)
    promoted(copy.start())
    assert copy.value("SELECT sum(i) FROM ledger") == 500500
    assert copy.value("SHOW archive_mode") == "off"
    replica = lab.Postgres(work_dir + "/replica", major)
    wa.run("restore", "-D", replica.data, "--standby", "--primary-conninfo", pg.conninfo(dbname=None))
    make_pg.adopt(replica)
    replica.start()
    pg.sql("CREATE TABLE later AS SELECT 1 AS i")
    assert replica.caught_up_with(pg).value("SELECT count(*) FROM later") == 1
    assert replica.value("SELECT pg_is_in_recovery()") is True


def test_the_backup_of_a_standby_becomes_a_primary_when_a_time_is_asked_for(
        make_pg, make_walagent, file_repository, work_dir):
    primary = make_pg()
    wa = follow(make_walagent(file_repository, primary))
    standby = primary.standby(work_dir + "/standby")
    make_pg.adopt(standby)
    standby.start()
    backup(make_walagent(file_repository, standby))
    primary.sql("CREATE TABLE t AS SELECT 1 AS i")
    durable(wa, primary)
    copy = lab.Postgres(work_dir + "/copy")
    wa.run("restore", "-D", copy.data, "--to-lsn", primary.lsn())
    make_pg.adopt(copy)
    assert promoted(copy.start()).value("SELECT count(*) FROM t") == 1


# ---- the agent ----

@pytest.fixture
def agent(pg, make_walagent, file_repository):
    return follow(make_walagent(file_repository, pg))


def test_http_answers_get_and_head_only_and_names_its_paths(agent):
    assert agent.http("/healthz") == (200, "ok\n")
    assert agent.http("/ready") == (200, "ready\n")
    status = json.loads(agent.http("/status")[1])
    assert status["cluster"] == "main" and status["stream"]["state"] == "streaming"
    assert status["waiting_for"] is None and status["pid"] > 0
    window = json.loads(agent.http("/window")[1])
    assert window["backups"] == [] and window["windows"] == []
    assert json.loads(agent.http("/backups")[1]) == []
    code, text = agent.http("/nothing")
    assert code == 404 and "/metrics" in text
    connection = http.client.HTTPConnection("127.0.0.1", agent.http_port, timeout=10)
    for method, expected in (("HEAD", 200), ("POST", 405), ("DELETE", 405)):
        connection.request(method, "/healthz", body="x" if method == "POST" else None)
        answer = connection.getresponse()
        assert (answer.status, answer.read() != b"") == (expected, expected != 200)
    connection.close()


def test_metrics_are_in_prometheus_format(agent, pg):
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    durable(agent, pg)
    code, text = agent.http("/metrics")
    assert code == 200
    types, helps, samples = {}, set(), {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types and kind in ("gauge", "counter")
            types[name] = kind
        elif line.startswith("# HELP "):
            helps.add(line.split(" ")[2])
        else:
            name, labels_text, value = re.fullmatch(
                r'([a-z_]+)(\{[a-z]+="[^"]*"\})? (-?[0-9.]+)', line).groups()
            assert name in types, line
            assert (types[name] == "counter") == name.endswith("_total"), line
            assert name.startswith("walagent_") and (name, labels_text) not in samples
            samples[(name, labels_text)] = float(value)
    assert helps == set(types)
    assert samples[("walagent_durable_lsn_bytes", None)] > 0
    assert samples[("walagent_repository_up", None)] == 1
    assert samples[("walagent_stream_state", '{state="streaming"}')] == 1
    assert sum(v for (n, _), v in samples.items() if n == "walagent_stream_state") == 1
    assert samples[("walagent_last_durable_timestamp_seconds", None)] > 1.6e9


def test_sigterm_ends_the_agent_in_order_and_everything_received_is_durable(agent, pg):
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 100000) AS i")
    target = pg.lsn()
    lab.wait_until(lambda: pg.value(
        "SELECT coalesce(max(sent_lsn) >= %s::pg_lsn, false) FROM pg_stat_replication"
        " WHERE application_name = 'walagent'", target), 30, "sent")
    assert agent.stop(timeout=10) == 0
    assert "stopping" in agent.log
    assert pg.value("SELECT restart_lsn IS NOT NULL FROM pg_replication_slots")
    agent.start(ready=False)
    lab.wait_until(lambda: is_ready(agent), 30, "the agent streams again")


def test_sighup_reloads_what_can_be_reloaded_and_keeps_what_is_wrong_out(agent, pg):
    agent.set("agent.log_level", "debug")
    agent.set("archive.tail_interval", "200ms")
    agent.signal(signal.SIGHUP)
    agent.wait_log("configuration reloaded")
    lab.wait_until(lambda: agent.log.count("streaming WAL of cluster") == 2, 30, "it streams anew")
    lab.wait_until(lambda: is_ready(agent), 30, "the agent streams again")
    pg.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    durable(agent, pg)
    agent.set("repository.s3_storage_class", "STANDARD_IA")  # opens the repository anew
    requests = agent.http("/metrics")[1]
    agent.signal(signal.SIGHUP)
    lab.wait_until(lambda: agent.log.count("streaming WAL of cluster") == 3, 30, "it streams anew")
    lab.wait_until(lambda: is_ready(agent), 30, "the agent streams again")
    assert puts(agent.http("/metrics")[1]) < puts(requests), "the old repository still serves"
    assert json.loads(agent.http("/window")[1])["cluster"] == "main"
    agent.set("agent.listen", "127.0.0.1:1")
    agent.signal(signal.SIGHUP)
    agent.wait_log(r"\[agent\] listen was changed.*restarted")
    agent.expect("the configuration was not reloaded")
    agent.set("archive.tail_interval", "soon")
    agent.signal(signal.SIGHUP)
    agent.wait_log("the configuration was not reloaded.*tail_interval")
    assert is_ready(agent)


def test_status_speaks_to_people_and_machines_and_exits_4_without_an_agent(agent, pg):
    pg.sql("CREATE TABLE t AS SELECT 1 AS i")
    durable(agent, pg)
    text = agent.run("status").stdout
    for word in ("cluster", "streaming from", "durable", "lag", "slot", "spool"):
        assert word in text, text
    assert agent.json("status").keys() == json.loads(agent.http("/status")[1]).keys()
    agent.stop()
    done = agent.run("status", check=4)
    assert "no agent answers" in done.stderr and "HINT:" in done.stderr


def test_a_second_agent_on_the_same_socket_is_refused(agent):
    done = agent.run("run", check=(1, 2, 5), timeout=30)
    assert agent.socket in done.stderr or "listen" in done.stderr, done.stderr
    assert is_ready(agent)
    assert agent.run("status").returncode == 0


def test_sigterm_ends_the_agent_in_time_while_the_store_is_away_and_nothing_is_lost(
        pg, make_walagent, file_repository):
    wa = follow(make_walagent(file_repository, pg))
    root = file_repository["url"][len("file://"):]
    pg.sql("CREATE TABLE before_it AS SELECT 1 AS i")
    durable(wa, pg)
    wa.expect("could not|can't|WARNING|not archived")
    os.rename(root, root + ".away")
    pg.sql("CREATE TABLE meanwhile AS SELECT generate_series(1, 20000) AS i")
    target = pg.lsn()
    lab.wait_until(lambda: wa.http("/status")[0] == 200 and
                   json.loads(wa.http("/status")[1])["stream"]["last_error"], 60, "it is noticed")
    assert wa.stop(timeout=11) == 0
    # Where the directory is missing it may be made anew by a write; what counts is what comes back.
    shutil.rmtree(root, ignore_errors=True)
    os.rename(root + ".away", root)
    wa.start(ready=False)
    lab.wait_until(lambda: is_ready(wa), 30, "the agent streams again")
    durable(wa, pg)
    assert wa.json("verify")["damage"] == []
    assert pg.lsn() >= target


def puts(metrics):
    return int(re.search(r'requests_total\{kind="put"\} (\d+)', metrics).group(1))


def test_the_agent_starts_while_the_store_is_away_and_says_what_it_waits_for(
        pg, make_walagent, file_repository):
    wa = make_walagent(file_repository, pg)
    wa.run("init")
    root = file_repository["url"][len("file://"):]
    os.rename(root, root + ".away")
    wa.start(ready=False)
    lab.wait_until(lambda: wa.is_running() and answers(wa, "/healthz"), 30, "the agent is up")
    lab.wait_until(lambda: root in wa.http("/ready")[1], 15, "it says what it waits for")
    assert wa.http("/ready")[0] == 503
    assert root in json.loads(wa.http("/status")[1])["waiting_for"]
    assert wa.http("/backups")[0] == 503
    assert 'walagent_repository_up 0' in wa.http("/metrics")[1]
    os.rename(root + ".away", root)
    lab.wait_until(lambda: is_ready(wa), 60, "the agent streams")
    assert json.loads(wa.http("/status")[1])["waiting_for"] is None


def answers(wa, path):
    try:
        return wa.http(path)[0] == 200
    except OSError:
        return False


def test_the_agent_starts_while_the_server_is_away(make_pg, make_walagent, file_repository):
    pg = make_pg()
    wa = make_walagent(file_repository, pg)
    wa.run("init")
    wa.expect(lab.COMES_AND_GOES)
    pg.stop()
    wa.start(ready=False)
    lab.wait_until(lambda: wa.is_running() and answers(wa, "/healthz"), 30, "the agent is up")
    assert wa.http("/ready")[0] == 503
    pg.start()
    lab.wait_until(lambda: is_ready(wa), 60, "the agent streams")


def test_systemd_is_told_ready_watchdog_reloading_and_stopping(pg, make_walagent, file_repository):
    wa = make_walagent(file_repository, pg)
    wa.run("init")
    path = os.path.join(wa.dir, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        os.chmod(path, 0o777)
        systemd.settimeout(30)

        def until(wanted):
            seen = []
            while not seen or seen[-1].split("\n")[0] != wanted:
                seen.append(systemd.recv(4096).decode())
            return seen

        wa.start(ready=False, env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
        assert until("READY=1") == ["READY=1"]
        until("WATCHDOG=1")
        until("WATCHDOG=1")
        wa.signal(signal.SIGHUP)
        until("RELOADING=1")
        until("READY=1")
        wa.signal(signal.SIGTERM)
        until("STOPPING=1")
        assert wa.stop() == 0


@pytest.mark.parametrize("key, value", [
    ("archive.tail_interval", "soon"), ("agent.listen", "nonsense"), ("repository.url", "ftp://x"),
    ("agent.no_such_key", "1"), ("cluster.conninfo", None)])
def test_a_wrong_configuration_ends_the_agent_with_2(pg, make_walagent, file_repository, key,
                                                     value):
    wa = make_walagent(file_repository, pg)
    wa.set(key, value)
    done = wa.run("run", check=2, timeout=30)
    assert key.split(".")[1] in done.stderr or (value and value in done.stderr), done.stderr


@pytest.mark.parametrize("spoilt", ["closed", "a directory", "no_such_key = 1", 'listen = "x'])
def test_a_refused_configuration_is_named_and_has_a_way_out(make_walagent, file_repository, spoilt):
    wa = make_walagent(file_repository)
    path = wa.config_path
    if spoilt == "closed":
        os.chmod(path, 0)
    elif spoilt == "a directory":
        path = os.path.dirname(path)
    else:
        lab.write_file(path, lab.read_file(path) + spoilt + "\n")
    for command in (["list"], ["run"], ["archive-push", "/nowhere/000000010000000000000001"]):
        done = wa.run(*command, check=2, env={"WALAGENT_CONFIG": path})
        assert '"%s"' % path in done.stderr or path + " line" in done.stderr, done.stderr
        assert "HINT: " in done.stderr, done.stderr


def keys_of(value):
    if isinstance(value, list):
        return set().union(*map(keys_of, value)) if value else set()
    if isinstance(value, dict):
        return set(value) | keys_of(list(value.values()))
    return set()


def test_every_key_of_every_answer_is_documented(pg, agent, work_dir):
    pg.sql("CREATE TABLESPACE elsewhere LOCATION '%s'"
           % lab.make_dir(os.path.join(work_dir, "space"), 0o700))
    answers_seen = {"backup": backup(agent), "init": agent.json("init"),
                    "check": agent.json("check")}
    moment = pg.value("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC',"
                      " 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    pg.sql("CREATE TABLE t AS SELECT 1 AS i")
    pg.sql("DROP TABLE t")
    durable(agent, pg)
    for command in (["list"], ["status"], ["verify"], ["lineage"], ["log"],
                    ["log", "--around", moment], ["log", "--find-drop"],
                    ["restore", "-D", work_dir + "/x", "--dry-run", "--to-time", moment]):
        answers_seen[" ".join(command)] = agent.json(*command)
    for path in ("/status", "/window", "/backups"):
        answers_seen[path] = json.loads(agent.http(path)[1])
    limit = re.search(r"^walagent_lag_limit_bytes (\d+)", agent.http("/metrics")[1], re.M)
    assert answers_seen["status"]["stream"]["lag_limit_bytes"] == int(limit.group(1)) > 0
    documented = set(re.findall(r"`([a-z0-9_]+)`",
                                lab.read_file(os.path.join(lab.ROOT, "docs", "json.md"))))
    missing = {name: keys_of(answer) - documented for name, answer in answers_seen.items()
               if keys_of(answer) - documented}
    assert all(keys_of(a) for a in answers_seen.values()) and not missing, missing


def test_wrong_options_name_the_nearest_and_exit_2(agent):
    done = agent.run("backup", "--jbos", "2", check=2)
    assert "--jobs" in done.stderr
    done = agent.run("bakcup", check=2)
    assert '"backup"' in done.stderr
    for command in ([], ["backup"], ["verify"], ["list"], ["run"], ["restore"], ["check"]):
        assert "Usage:" in agent.run(*command, "--help").stdout


# ---- check ----

def verdicts(wa, check=None):
    return {f["what"]: f["verdict"] for f in wa.json("check", "--timeout", "5s", check=check)
            ["findings"]}


def test_check_gives_an_advice_once_and_creates_no_repository(pg, make_walagent, file_repository,
                                                              work_dir):
    wa = make_walagent(file_repository, pg)
    blocked = os.path.join(work_dir, "a-file")
    lab.write_file(blocked, "")
    wa.set("repository.url", "file://%s/repo" % blocked)
    said = wa.run("check", check=3).stdout
    hints = re.findall(r"HINT:  (.*)", said[said.index("failed   repository"):])[:2]
    assert len(hints[0]) > 20 and hints[1] == 'as for "repository"', said
    found = [f["hint"] for f in wa.json("check", check=3)["findings"]
             if f["what"] in ("repository", "store")]
    assert found == [hints[0], hints[0]]
    away = os.path.join(work_dir, "not-mounted")
    wa.set("repository.url", "file://%s" % away)
    found = verdicts(wa, check=3)
    assert found["repository"] == "failed" and found["store"] == "warning"
    assert not os.path.exists(away)


def test_check_finds_a_missing_entry_slot_and_archiver(pg, make_walagent, file_repository):
    wa = make_walagent(file_repository, pg)
    found = verdicts(wa, check=3)
    assert found["repository"] == "failed" and found["store"] == "ok"
    assert found["slot"] == "failed" and found["archiver"] == "failed"
    wa.run("init")
    found = verdicts(wa, check=3)
    assert found["repository"] == "ok" and found["slot"] == "warning"
    assert found["slot-limit"] == "warning" and found["privileges"] == "warning"
    assert found["archiver"] == "failed" and found["wal-arrives"] == "failed"


def test_check_leaves_nothing_behind_and_works_with_few_privileges(pg, agent):
    pg.sql("CREATE ROLE plain LOGIN REPLICATION")
    agent.set("cluster.conninfo", pg.conninfo(user="plain"))
    before = set(objects(agent, "probe/**"))
    found = verdicts(agent, check=0)
    assert found["privileges"] == "warning" and found["wal-arrives"] in ("ok", "warning")
    assert set(objects(agent, "probe/**")) == before
    assert glob.glob(os.path.join(agent.dir, "state", "check.*")) == []


def test_check_finds_a_server_that_cant_be_reached(make_pg, make_walagent, file_repository):
    pg = make_pg()
    wa = make_walagent(file_repository, pg)
    wa.run("init")
    pg.stop()
    assert verdicts(wa, check=3)["server"] == "failed"


# ---- verify ----

@pytest.mark.parametrize("pattern, kind", [
    ("wal/**/*.zst", "segment"), ("backup/*/pack-*.zst", "backup"),
    ("backup/*/backup_manifest.zst", "backup"), ("backup/*/files.zst", "backup"),
    ("backup/*/backup.json", "backup")])
def test_verify_names_an_object_with_a_flipped_bit(pg, agent, pattern, kind):
    archived(pg, agent)
    path = objects(agent, pattern)[-2 if kind == "segment" else 0]
    # In the description the flipped bit must not hit an unimportant character.
    flip(path, lab.read_file(path).index('"start_lsn"') if path.endswith(".json") else None)
    result = agent.json("verify", check=3)
    assert kind in [d["kind"] for d in result["damage"]], result
    key = path.split("/repo/", 1)[1]
    named = [d for d in result["damage"] if d["object"] in key or d["object"].split(":")[0] in key]
    assert named and named[0]["cost"], result


def test_verify_finds_a_missing_segment_as_a_hole(pg, agent):
    archived(pg, agent)
    missing = objects(agent, "wal/**/*.zst")[-3]
    os.unlink(missing)
    shutil.rmtree(os.path.join(missing.split("/wal/")[0], "index"), ignore_errors=True)
    for chunk in objects(agent, "tail/**/" + os.path.basename(missing)[:24] + "/**"):
        os.unlink(chunk)
    result = agent.json("verify", check=3)
    assert "hole" in [d["kind"] for d in result["damage"]], result
    listed = agent.json("list")
    assert listed["hole_count"] == 1
    number = int(os.path.basename(missing)[8:16] + os.path.basename(missing)[22:24], 16)
    assert set(listed["holes"][0]) == {"begin_lsn", "end_lsn", "last_time_before", "first_time_after",
                                       "reachable_from_time", "archived"}
    assert listed["holes"][0]["archived"] is False
    assert listed["holes"][0]["begin_lsn"] == "%X/%X" % (number >> 8, (number & 0xFF) << 24)
    assert agent.run("list", "--require", "no-hole", check=3)


def test_verify_finds_a_pack_that_is_missing_or_another_backups(pg, agent):
    archived(pg, agent)
    pg.sql("CREATE TABLE more AS SELECT generate_series(1, 100000) AS i")
    backup(agent)
    # In the order of list: labels of one second are in none by their names.
    older, newer = labels(agent)
    first, second = [objects(agent, "backup/%s/pack-00001.tar.zst" % label)[0] for label in (older, newer)]
    for end in ("", ".meta"):
        shutil.copy2(first + end, second + end)
    result = agent.json("verify", "--backup", newer, check=3)
    assert [d for d in result["damage"] if newer in d["message"] + d["object"]], result
    os.unlink(second)
    os.unlink(second + ".meta")
    result = agent.json("verify", "--backup", newer, check=3)
    assert [d for d in result["damage"] if d["object"].endswith("pack-00001.tar.zst")], result
    assert agent.run("verify", "--backup", older).returncode == 0


@pytest.mark.parametrize("command", ["verify", "list", "backup"])
def test_what_waits_for_a_silent_store_can_be_interrupted(pg, make_walagent, s3_repository, command):
    with FaultProxy(s3_repository["s3_endpoint"]) as proxy:
        wa = make_walagent(dict(s3_repository, s3_endpoint=proxy.url), pg)
        wa.run("init")
        silent = proxy.add("stall", method="GET", times=1000, seconds=600)
        running = wa_popen(wa, command)
        lab.wait_until(lambda: silent.hits, 30, "it waits for the store")
        running.send_signal(signal.SIGINT)
        said = end_of(running)[1]
        assert running.returncode == 1 and said.startswith("walagent: "), (running.returncode, said)
