"""cmake --install: the program, its units, man pages and the sample, in their places."""
import os
import re
import subprocess

import pytest

import lab


@pytest.fixture(scope="module")
def installed(session_dir):
    root = os.path.join(session_dir, "root")
    subprocess.run(["cmake", "--install", lab.BUILD, "--prefix", "/usr"], check=True, timeout=120,
                   env=dict(os.environ, DESTDIR=root), stdout=subprocess.PIPE)
    lab.run(["chmod", "-R", "a+rX", root], user=False)
    return root


def files_of(root):
    return {os.path.relpath(os.path.join(d, f), root) for d, _, fs in os.walk(root) for f in fs}


def test_everything_has_its_place_and_etc_is_left_alone(installed):
    found = files_of(installed)
    assert {"usr/bin/walagent", "usr/libexec/walagent/walagent-main",
            "usr/lib/systemd/system/walagent@.service",
            "usr/lib/systemd/system/walagent-backup@.service",
            "usr/lib/systemd/system/walagent-backup@.timer",
            "usr/share/doc/walagent/walagent.conf", "usr/share/man/man1/walagent.1",
            "usr/share/man/man5/walagent.conf.5"} <= found
    assert not [f for f in found if f.startswith("etc/")]


def test_the_installed_program_finds_its_other_half_and_has_a_page_for_every_command(installed):
    program = os.path.join(installed, "usr/bin/walagent")
    assert lab.run([program, "--version"]).stdout.startswith("walagent ")
    text = lab.run([program, "--help"]).stdout
    commands = re.findall(r"^  ([a-z-]+)  ", text, re.M)
    assert {"init", "run", "backup", "restore", "archive-push", "archive-get"} <= set(commands)
    for command in commands:
        page = lab.read_file(os.path.join(installed, "usr/share/man/man1/walagent-%s.1" % command))
        assert page.startswith(".TH WALAGENT\\-" + command.upper().replace("-", "\\-")
                               ) or page.startswith(".TH WALAGENT\\-" + command.upper()), page[:60]


def test_the_units_start_the_installed_program(installed):
    for unit in ("walagent@.service", "walagent-backup@.service"):
        text = lab.read_file(os.path.join(installed, "usr/lib/systemd/system", unit))
        assert re.search(r"^ExecStart=/usr/bin/walagent (run|backup) -c /etc/walagent/%i.conf$",
                         text, re.M), text


def test_the_sample_is_a_valid_configuration_and_its_reference_has_every_key(installed):
    sample = os.path.join(installed, "usr/share/doc/walagent/walagent.conf")
    program = os.path.join(installed, "usr/bin/walagent")
    assert "ok" in lab.run([program, "config", "check", "-c", sample]).stdout
    page = lab.read_file(os.path.join(installed, "usr/share/man/man5/walagent.conf.5"))
    page = page.replace("\\-", "-")
    keys = re.findall(r"^#([a-z0-9_]+) =", lab.read_file(sample), re.M)
    assert len(keys) > 30
    for key in keys:
        assert "\\fB%s\\fR" % key in page, key


def test_the_read_me_names_only_commands_and_options_that_exist(installed):
    program = os.path.join(installed, "usr/bin/walagent")
    text = lab.read_file(os.path.join(lab.ROOT, "README.md"))
    options = {}
    for command, rest in re.findall(r"walagent ([a-z-]+)((?: [^\n`|;#]*)?)", text):
        if command in ("is", "runs", "keeps", "yet"):
            continue
        if command not in options:
            options[command] = lab.run([program, command, "--help"]).stdout
        for option in re.findall(r"(?<= )--[a-z-]+", rest):
            assert option in options[command], (command, option)
    assert {"init", "backup", "restore", "log", "check", "verify", "status"} <= set(options)
