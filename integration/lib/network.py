"""A network of one's own that can be cut, and a name that can stop resolving (as root)."""
import os
import select
import shutil
import socket
import subprocess
import threading

import lab

COUNT = [0]


def ip(*argv, check=True):
    return subprocess.run(["ip"] + list(argv), check=check, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE).returncode == 0


class Forwarder:
    """TCP from (host, port) to an address, or to a unix socket."""

    def __init__(self, host, target, port=None):
        self.target, self.pairs, self.closed = target, [], False
        self.listener = socket.create_server((host, port or 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self.closed:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET)
            try:
                server.connect(self.target)
            except OSError:
                client.close()
                server.close()
                continue
            self.pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()

    @staticmethod
    def _pump(client, server):
        other = {client: server, server: client}
        try:
            while True:
                for side in select.select(list(other), [], [])[0]:
                    data = side.recv(1 << 16)
                    if not data:
                        return
                    other[side].sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            client.close()
            server.close()

    def hang_up(self):
        """End the connections there are; new ones are taken."""
        for pair in self.pairs:
            for side in pair:
                try:
                    side.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.pairs = []

    def close(self):
        self.closed = True
        self.listener.close()
        self.hang_up()


class Cell:
    """A network namespace with one cable to this host (self.host is this host in there)."""

    def __init__(self):
        COUNT[0] += 1
        self.name = "wa%d-%d" % (os.getpid() % 100000, COUNT[0])
        self.cable = self.name[:13] + "h"
        third = 2 + (os.getpid() * 7 + COUNT[0]) % 250
        self.host, self.inside = "10.213.%d.1" % third, "10.213.%d.2" % third

    def open(self):
        if os.geteuid() != 0 or not shutil.which("ip") or not ip("netns", "add", self.name, check=False):
            return None
        try:
            ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            ip("addr", "add", self.host + "/30", "dev", self.cable)
            ip("link", "set", self.cable, "up")
            ip("-n", self.name, "addr", "add", self.inside + "/30", "dev", "eth0")
            ip("-n", self.name, "link", "set", "eth0", "up")
            ip("-n", self.name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError:
            self.close()
            return None
        return self

    def cut(self):
        """What is sent is swallowed; nobody is told."""
        ip("link", "set", self.cable, "down")

    def mend(self):
        ip("link", "set", self.cable, "up")

    def close(self):
        ip("link", "del", self.cable, check=False)
        ip("netns", "del", self.name, check=False)

    def start(self, walagent):
        return start_within(walagent, ["ip", "netns", "exec", self.name])


def start_within(walagent, prefix):
    """Start an agent by a command that ends in its own."""
    env = dict(lab.PLAIN_ENVIRONMENT, **walagent.environment())
    with open(walagent.log_path, "ab") as log:
        walagent.process = subprocess.Popen(
            prefix + lab.as_user(walagent.command("run")), env=env, cwd="/", stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True)
    return walagent.wait_ready()


class Hosts:
    """/etc/hosts and a name server for one agent, in a mount namespace: names can go."""

    def __init__(self, directory):
        self.hosts = lab.write_file(os.path.join(directory, "hosts"), "")
        self.resolv = lab.write_file(os.path.join(directory, "resolv.conf"),
                                     "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")

    def say(self, text):
        with open(self.hosts, "r+") as f:  # in place: it is mounted
            f.truncate()
            f.write(text)

    def start(self, walagent):
        return start_within(walagent, [
            "unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && mount --bind "$1" '
            '/etc/resolv.conf && shift && exec "$@"', self.hosts, self.resolv])
