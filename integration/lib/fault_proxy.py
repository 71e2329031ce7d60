"""A proxy between walagent and a real S3 server that breaks what it is told to break.

The Host header is passed on as it came, so signatures stay valid. As a program:

    fault_proxy.py --listen 127.0.0.1:9190 --upstream http://127.0.0.1:9100

and then POST, GET or DELETE /_fault (the same JSON as FaultProxy.add takes). As a library:

    with FaultProxy("http://127.0.0.1:9100") as proxy:
        proxy.add("status", method="PUT", code=503, s3_code="SlowDown")

A fault meets the requests whose method and path (with query) fit, from the `nth` of them on, `times` times.
Actions:
    status     answer `code` with an S3 error body (`s3_code`, `message`, `body`) and `headers`; nothing is forwarded
    answer     forward, then answer `code` with `body` and `headers` instead of the server's answer
    reset      reset the connection; nothing is forwarded
    stall      read the request, then be silent for `seconds`; nothing is forwarded
    lose       forward, the server commits, then reset the connection
    late       reset the connection, and forward `seconds` later
    truncate   forward, send the headers and the first `bytes` of the body, then reset
    slow       forward, send the body in pieces of `bytes` every `seconds`
    silent     forward, send the headers and the first `bytes` of the body, then be silent for `seconds`
    headers    forward, with `headers` replaced in the answer
    flip       forward, with one bit of the body flipped
"""
import argparse
import http.client
import json
import socket
import struct
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


class Fault:
    def __init__(self, action, method=None, path=None, nth=1, times=1, **options):
        self.action, self.method, self.path = action, method, path
        self.nth, self.times, self.options = nth, times, options
        self.seen = self.hits = 0

    def fits(self, method, path):
        return (self.method in (None, method)) and (self.path is None or self.path in path)

    def take(self):
        self.seen += 1
        if self.seen < self.nth or self.hits >= self.times:
            return False
        self.hits += 1
        return True


def error_body(code, message):
    return (f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
            f"<Message>{message}</Message></Error>").encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120
    disable_nagle_algorithm = True  # a body behind its head would wait for the client's ACK

    def log_message(self, *args):
        pass

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.path.startswith("/_fault"):
            return self.admin(body)
        fault = self.server.proxy.pick(self.command, self.path)
        if fault is None:
            return self.reply(*self.forward(body))
        getattr(self, "do_fault_" + fault.action)(body, fault.options)
        return None

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def admin(self, body):
        proxy = self.server.proxy
        if self.command == "POST":
            proxy.add(**json.loads(body))
        elif self.command == "DELETE":
            proxy.clear()
        text = json.dumps({"requests": proxy.requests,
                           "hits": [f.hits for f in proxy.faults]}).encode()
        self.reply(200, [("Content-Type", "application/json")], text)

    def forward(self, body):
        upstream = self.server.proxy.upstream
        connection = http.client.HTTPConnection(upstream.hostname, upstream.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, answer.getheaders(), content
        finally:
            connection.close()

    def send_head(self, status, headers, length):
        self.send_response_only(status)
        given = None
        for name, value in headers:
            if name.lower() == "content-length":
                given = value
            elif name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if self.command == "HEAD" and given is not None:
            length = given
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def reply(self, status, headers, body):
        self.send_head(status, headers, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def reset(self):
        self.close_connection = True
        try:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        except OSError:
            pass

    def be_silent(self, seconds):
        """Until the client goes away, at most `seconds`."""
        self.connection.settimeout(seconds)
        try:
            self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            pass
        self.reset()

    def do_fault_status(self, body, options):
        text = options.get("body")
        text = text.encode() if text is not None else error_body(
            options.get("s3_code", "InternalError"), options.get("message", "injected"))
        self.reply(options["code"], list(options.get("headers", {}).items()), text)

    def do_fault_answer(self, body, options):
        self.forward(body)
        self.do_fault_status(body, options)

    def do_fault_reset(self, body, options):
        self.reset()

    def do_fault_stall(self, body, options):
        self.be_silent(options.get("seconds", 60))

    def do_fault_lose(self, body, options):
        self.forward(body)
        self.reset()

    def do_fault_late(self, body, options):
        self.reset()
        time.sleep(options.get("seconds", 1))
        self.server.proxy.late.append(self.forward(body)[0])

    def do_fault_truncate(self, body, options):
        status, headers, content = self.forward(body)
        self.send_head(status, headers, len(content))
        self.wfile.write(content[:options.get("bytes", len(content) // 2)])
        self.connection.shutdown(socket.SHUT_WR)
        self.close_connection = True

    def do_fault_silent(self, body, options):
        status, headers, content = self.forward(body)
        self.send_head(status, headers, len(content))
        self.wfile.write(content[:options.get("bytes", len(content) // 2)])
        self.wfile.flush()
        self.be_silent(options.get("seconds", 60))

    def do_fault_slow(self, body, options):
        status, headers, content = self.forward(body)
        self.send_head(status, headers, len(content))
        step = options.get("bytes", 1024)
        try:
            for at in range(0, len(content), step):
                self.wfile.write(content[at:at + step])
                self.wfile.flush()
                time.sleep(options.get("seconds", 0.01))
        except OSError:
            self.reset()

    def do_fault_headers(self, body, options):
        status, headers, content = self.forward(body)
        replaced = {name.lower() for name in options["headers"]}
        headers = [h for h in headers if h[0].lower() not in replaced]
        self.reply(status, headers + list(options["headers"].items()), content)

    def do_fault_flip(self, body, options):
        status, headers, content = self.forward(body)
        damaged = bytearray(content)
        damaged[options.get("at", len(damaged) // 2)] ^= 1
        self.reply(status, headers, bytes(damaged))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # clients that go away are what this is about


class FaultProxy:
    def __init__(self, upstream, listen=("127.0.0.1", 0)):
        self.upstream = urllib.parse.urlsplit(upstream)
        self.faults, self.requests, self.late = [], [], []
        self.lock = threading.Lock()
        self.server = Server(listen, Handler)
        self.server.proxy = self
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.server.server_address[1]

    def add(self, action, **options):
        if not hasattr(Handler, "do_fault_" + action):
            raise ValueError("no such fault: " + action)
        fault = Fault(action, **options)
        with self.lock:
            self.faults.append(fault)
        return fault

    def clear(self):
        with self.lock:
            self.faults.clear()
            self.requests.clear()
            self.late.clear()

    def pick(self, method, path):
        with self.lock:
            self.requests.append(f"{method} {path}")
            for fault in self.faults:
                if fault.fits(method, path) and fault.take():
                    return fault
        return None

    def count(self, method, part=""):
        with self.lock:
            return sum(1 for r in self.requests if r.startswith(method + " ") and part in r)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()


def main():
    parser = argparse.ArgumentParser(description="fault-injecting proxy for S3")
    parser.add_argument("--listen", default="127.0.0.1:9190")
    parser.add_argument("--upstream", required=True)
    args = parser.parse_args()
    host, port = args.listen.rsplit(":", 1)
    with FaultProxy(args.upstream, (host, int(port))) as proxy:
        print(proxy.url, flush=True)
        proxy.thread.join()


if __name__ == "__main__":
    main()
