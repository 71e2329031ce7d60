"""The S3 driver against real servers, and against what networks and servers do to it."""
import contextlib
import hashlib
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import uuid

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
from lib.fault_proxy import FaultProxy  # noqa: E402
from lib.s3_servers import BUILD, ceph, swift  # noqa: E402,F401

TOOL = str(BUILD / "tests" / "store-tool")
CONTRACT = str(BUILD / "tests" / "store-contract")


class Failure(Exception):
    def __init__(self, text):
        super().__init__(text)
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        self.status, self.message, self.hint = fields["error"], fields["message"], fields["hint"]


class Store:
    """store-tool on a fresh prefix of the server's bucket, through a proxy."""

    def __init__(self, server, proxy, tmp_path):
        self.server, self.proxy, self.tmp = server, proxy, tmp_path
        self.prefix = uuid.uuid4().hex
        self.url = f"s3://{server.bucket}/{self.prefix}"
        self.more = {}

    def env(self, **more):
        return self.server.env(self.proxy.url, **{**self.more, **more})

    def run(self, *args, env=None):
        done = subprocess.run([TOOL, self.url, *args], env=env or self.env(), capture_output=True, timeout=120)
        errors = done.stderr.decode()
        if done.returncode == 1 and errors.startswith("error="):
            raise Failure(errors)
        assert done.returncode == 0, errors
        return done.stdout

    def file(self, content):
        path = self.tmp / hashlib.sha256(content).hexdigest()[:16]
        path.write_bytes(content)
        return str(path)

    def put(self, key, content, meta="{}", verb="put", **kw):
        return self.run(verb, key, self.file(content), meta, **kw)

    def fails(self, status, *args, **kw):
        with pytest.raises(Failure) as caught:
            self.run(*args, **kw)
        assert caught.value.status == status, str(caught.value)
        return caught.value


@pytest.fixture
def proxy(ceph):
    with FaultProxy(ceph.endpoint) as p:
        yield p


@pytest.fixture
def store(ceph, proxy, tmp_path):
    return Store(ceph, proxy, tmp_path)


@contextlib.contextmanager
def relay(address, endpoint):
    """The same server under another address."""
    host, port = endpoint.split("://")[1].rsplit(":", 1)

    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    class Relay(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection((host, int(port))) as upstream:
                back = threading.Thread(target=pump, args=(upstream, self.request))
                back.start()
                pump(self.request, upstream)
                back.join()

    with socketserver.ThreadingTCPServer((address, 0), Relay) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://{address}:{server.server_address[1]}"
        server.shutdown()


def contract(server, **more):
    done = subprocess.run([CONTRACT, f"s3://{server.bucket}/contract"], env=server.env(**more), text=True,
                          capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- real servers ----

def test_ceph_keeps_the_contract(ceph):
    assert "conditional put yes" in contract(ceph)


def test_swift_keeps_the_contract_and_has_no_conditional_put(swift):
    assert "conditional put no" in contract(swift)


def test_tls_with_the_right_ca(ceph):
    contract(ceph, endpoint=ceph.tls_endpoint, WALAGENT_REPOSITORY_S3_CA_FILE=ceph.ca)


def test_tls_refuses_unknown_ca_and_wrong_name(ceph, store):
    unknown = store.fails("denied", "head", "a", env=ceph.env(ceph.tls_endpoint))
    assert "certificate" in unknown.message and "s3_ca_file" in unknown.hint
    with relay("127.0.0.2", ceph.tls_endpoint) as url:  # a name that the certificate doesn't have
        wrong = store.fails("denied", "head", "a", env=ceph.env(url, WALAGENT_REPOSITORY_S3_CA_FILE=ceph.ca))
    assert "127.0.0.2" in wrong.message
    store.run("probe", env=ceph.env(ceph.tls_endpoint, WALAGENT_REPOSITORY_S3_VERIFY_TLS="off"))


def test_other_tools_read_what_was_written(ceph, store, tmp_path):
    content = os.urandom(300000)
    store.put("dir/object", content, '{"v":1}')
    out = tmp_path / "copy"
    ceph.aws("s3", "cp", f"{store.url}/dir/object", str(out))
    assert out.read_bytes() == content
    head = ceph.aws("s3api", "head-object", "--bucket", ceph.bucket, "--key", store.prefix + "/dir/object")
    assert '"wa": "{\\"v\\":1}"' in head


def test_listing_of_more_than_a_thousand_keys_and_their_deletion(store):
    names = [f"n/{i:04d}" for i in range(1003)]
    directory = store.tmp / "many"
    (directory / "n").mkdir(parents=True)
    for name in names:
        (directory / name).write_bytes(b"x")
    store.server.aws("s3", "cp", "--quiet", "--recursive", str(directory), store.url)
    assert store.run("list", "").decode().splitlines() == [f"1 {name}" for name in names]
    assert store.run("list", "", "delimited") == b"0 n/\n"
    store.run("delete", *names)
    assert store.run("list", "") == b""


def test_storage_class_is_passed_on(ceph, store):
    store.more["WALAGENT_REPOSITORY_S3_STORAGE_CLASS"] = "STANDARD_IA"
    store.put("a", b"x")
    assert "STANDARD_IA" in ceph.aws("s3api", "head-object", "--bucket", ceph.bucket, "--key", store.prefix + "/a")


# ---- wrong settings: one clear line ----

def test_wrong_keys_are_denied_and_the_key_is_named(store):
    for name in ("SECRET_ACCESS_KEY", "ACCESS_KEY_ID"):
        env = store.env(**{"WALAGENT_REPOSITORY_S3_" + name: "NOBODY"})
        key = env["WALAGENT_REPOSITORY_S3_ACCESS_KEY_ID"]
        for command in (("head", "a"), ("get", "a"), ("list", "")):
            assert key in store.fails("denied", *command, env=env).hint


@pytest.mark.parametrize("code,hint", [("SignatureDoesNotMatch", "s3_secret_access_key"),
                                       ("InvalidAccessKeyId", "s3_access_key_id"),
                                       ("AccessDenied", "policy")])
def test_reasons_for_a_refusal_are_told_apart(store, proxy, code, hint):
    for method, command in (("GET", ("get", "a")), ("PUT", ("put", "a", store.file(b"x")))):
        proxy.add("status", method=method, code=403, s3_code=code)
        failure = store.fails("denied", *command)
        assert code in failure.message and hint in failure.hint
    proxy.add("status", code=403, s3_code=code, times=2)  # HEAD, and the GET that asks why
    assert code in store.fails("denied", "head", "a").message


@pytest.mark.parametrize("command", [("head", "a"), ("get", "a"), ("list", ""), ("tail", "a", "9")])
def test_missing_bucket_is_no_missing_object(store, command):
    store.url = "s3://wa-no-such-bucket/x"
    failure = store.fails("invalid", *command)
    assert "bucket does not exist" in failure.message and "Create" in failure.hint


def test_something_else_than_s3_is_no_missing_object(store, proxy):
    proxy.add("status", code=404, body="<html>not here</html>", times=1000)
    env = store.env(STORE_TOOL_BUDGET_MS="1500")
    for command in (("head", "a"), ("get", "a")):
        assert "s3_endpoint" in store.fails("unavailable", *command, env=env).hint


def test_reason_is_told_though_the_budget_cuts_the_last_attempt_short(store, proxy):
    env = store.env(STORE_TOOL_BUDGET_MS="1500")
    for method, command in (("HEAD", ("head", "a")), ("GET", ("get", "a"))):
        # HEAD's reason is asked for with a GET
        proxy.add("status", code=404, body="<html>not here</html>", times=4 if method == "HEAD" else 2)
        proxy.add("stall", times=1)
        failure = store.fails("unavailable", *command, env=env)
        assert "s3_endpoint" in failure.hint and "3 attempts" in failure.message
        proxy.clear()


def test_missing_object_is_not_found(store):
    store.fails("not found", "head", "none")
    store.fails("not found", "get", "none")
    store.fails("not found", "tail", "none", "5")


def test_nobody_listens(store):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # nobody else gets the port meanwhile
        port = s.getsockname()[1]
        env = store.server.env(f"http://127.0.0.1:{port}", STORE_TOOL_BUDGET_MS="1000")
        store.fails("unavailable", "get", "a", env=env)


# ---- faults on the way ----

TRANSIENT = [
    dict(action="status", code=500, s3_code="InternalError"),
    dict(action="status", code=503, s3_code="SlowDown"),
    dict(action="status", code=429, s3_code="TooManyRequests", headers={"Retry-After": "1"}, times=1),
    dict(action="status", code=502, body="<html>bad gateway</html>"),
    dict(action="status", code=400, s3_code="RequestTimeout"),
    dict(action="status", code=409, s3_code="OperationAborted"),
    dict(action="status", code=400, s3_code="ExpiredToken", times=1),
    dict(action="reset"),
]


@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda f: f"{f['action']}-{f.get('code', '')}-{f.get('s3_code', '')}")
def test_every_call_survives_a_transient_fault(store, proxy, fault):
    def once(method):
        proxy.clear()
        return proxy.add(**{"times": 2, **fault, "method": method})
    content = os.urandom(100000)
    for method, call in [("PUT", lambda: store.put("a", content)),
                         ("HEAD", lambda: store.run("head", "a")),
                         ("GET", lambda: store.run("get", "a")),
                         ("GET", lambda: store.run("list", "")),
                         ("POST", lambda: store.run("upload", "m", store.file(content), "5MiB")),
                         ("DELETE", lambda: store.run("delete", "a"))]:
        met = once(method)
        call()
        assert met.hits > 0, method


def test_retry_after_is_honoured(store, proxy):
    store.put("a", b"x")
    proxy.clear()
    times = []
    pick = proxy.pick
    proxy.pick = lambda m, p: (times.append(time.monotonic()), pick(m, p))[1]
    proxy.add("status", code=503, s3_code="SlowDown", headers={"Retry-After": "1"})
    store.run("get", "a")
    assert len(times) == 2 and times[1] - times[0] >= 0.99


def test_not_implemented_and_denied_are_not_retried(store, proxy):
    for code, s3_code, status in ((501, "NotImplemented", "unsupported"), (403, "AccessDenied", "denied")):
        proxy.clear()
        proxy.add("status", code=code, s3_code=s3_code, times=100)
        store.fails(status, "get", "a")
        assert len(proxy.requests) == 1


def test_full_quota_is_no_space(store, proxy):
    proxy.add("status", code=403, s3_code="QuotaExceeded")
    assert store.fails("no space", "put", "a", store.file(b"x")).hint
    proxy.add("status", code=507, body="")
    store.fails("no space", "put", "a", store.file(b"x"))


def test_attempts_end_with_the_budget(store, proxy):
    proxy.add("status", code=503, s3_code="SlowDown", times=1000)
    failure = store.fails("unavailable", "get", "a", env=store.env(STORE_TOOL_BUDGET_MS="2000"))
    assert "attempts" in failure.message and "SlowDown" in failure.message
    assert 2 <= len(proxy.requests) <= 10


def test_a_silent_server_ends_with_the_budget(store, proxy):
    proxy.add("stall", times=1000)
    store.fails("unavailable", "get", "a", env=store.env(STORE_TOOL_BUDGET_MS="1500"))
    store.fails("unavailable", "put", "a", store.file(b"x"), env=store.env(STORE_TOOL_BUDGET_MS="1500"))


def test_cancel_wakes_a_waiting_call(store, proxy):
    proxy.add("stall", times=1000)
    process = subprocess.Popen([TOOL, store.url, "get", "a"], env=store.env(), stderr=subprocess.PIPE)
    lab.wait_until(lambda: proxy.requests, 30, "it asks")
    process.send_signal(signal.SIGTERM)
    assert b"error=cancelled" in process.communicate(timeout=10)[1]


# ---- put ----

def test_a_lost_reply_is_recognized_as_our_own(store, proxy):
    fault = proxy.add("lose", method="PUT")
    store.put("a", b"content", '{"n":1}')
    assert fault.hits == 1 and proxy.count("PUT") == 2
    assert store.run("get", "a") == b"content"


def test_another_writers_object_is_not_taken_for_ours(store, proxy):
    store.put("a", b"theirs!", '{"n":1}')
    proxy.add("reset", method="PUT")
    store.fails("exists", "put", "a", store.file(b"content"), '{"n":1}')  # same size, same facts
    proxy.add("reset", method="PUT")
    store.fails("exists", "put", "a", store.file(b"theirs!"), '{"n":2}')
    assert store.run("get", "a") == b"theirs!"


def test_without_conditional_put_the_driver_looks_first(store, proxy):
    proxy.add("status", method="PUT", code=501, s3_code="NotImplemented", times=1)
    store.put("a", b"first")
    proxy.add("status", method="PUT", code=501, s3_code="NotImplemented", times=1)
    store.fails("exists", "put", "a", store.file(b"second"))
    env = store.env(STORE_TOOL_CONDITIONAL="no")
    proxy.clear()
    store.fails("exists", "put", "a", store.file(b"second"), env=env)
    assert proxy.count("PUT") == 0
    store.run("put", "b", store.file(b"second"), env=env)
    assert store.run("get", "a") == b"first"


def test_a_put_that_lands_late_is_recognized(store, proxy):
    proxy.add("late", method="PUT", seconds=0)
    store.put("a", b"content", '{"n":1}')
    assert store.run("get", "a") == b"content"


def test_replace_is_repeated_after_a_lost_reply(store, proxy):
    store.put("a", b"first")
    proxy.add("lose", method="PUT")
    store.put("a", b"second", verb="replace")
    assert store.run("get", "a") == b"second"


# ---- get ----

def test_a_truncated_body_is_resumed_by_range(store, proxy):
    content = os.urandom(3000000)
    store.put("a", content)
    proxy.clear()
    fault = proxy.add("truncate", method="GET", times=3)
    assert store.run("get", "a") == content
    assert fault.hits == 3 and proxy.count("GET") == 4
    proxy.add("truncate", method="GET", bytes=10)
    assert store.run("tail", "a", "1000") == content[-1000:]
    proxy.add("truncate", method="GET", bytes=10)
    assert store.run("get", "a", "5000", "70000") == content[5000:75000]


def test_a_resumed_body_stays_with_its_object(store, proxy):
    first, second = os.urandom(400000), os.urandom(400000)
    store.put("a", first)
    fault = proxy.add("truncate", method="GET", bytes=200000)
    forward = proxy.pick

    def pick(method, path):
        if method == "GET" and fault.hits == 1:  # the second GET: meanwhile the object was replaced
            direct = store.server.env()
            proxy.pick = forward
            store.run("replace", "a", store.file(second), env=direct)
        return forward(method, path)
    proxy.pick = pick
    failure = store.fails("corrupt", "get", "a")
    assert "412" in failure.message


def test_a_silent_body_is_ended_and_resumed(store, proxy):
    content = os.urandom(400000)
    store.put("a", content)
    proxy.add("silent", method="GET", bytes=100000)
    assert store.run("get", "a", env=store.env(STORE_TOOL_BUDGET_MS="2000")) == content


def test_a_slow_body_is_waited_for(store, proxy):
    content = os.urandom(200000)
    store.put("a", content)
    proxy.add("slow", method="GET", bytes=20000, seconds=0.05)
    assert store.run("get", "a") == content


def test_a_server_that_ignores_range_is_understood(store, proxy):
    text = os.urandom(2500).hex()
    proxy.add("status", method="GET", code=200, body=text, times=3)
    assert store.run("get", "a", "100", "200").decode() == text[100:300]
    assert store.run("get", "a", "4990", "200").decode() == text[4990:]
    assert store.run("tail", "a", "77").decode() == text[-77:]


def test_another_range_than_asked_for_is_refused(store, proxy):
    store.put("a", b"0123456789")
    proxy.add("headers", method="GET", headers={"Content-Range": "bytes 5-7/10"})
    store.fails("corrupt", "get", "a", "2", "3")


# ---- cures ----

def test_region_named_by_the_server_is_used(store, proxy):
    proxy.add("status", code=400, s3_code="AuthorizationHeaderMalformed",
              headers={"x-amz-bucket-region": "us-east-1"})
    store.more["WALAGENT_REPOSITORY_S3_REGION"] = "eu-west-9"
    store.put("a", b"x")
    assert len(proxy.requests) == 2


def test_redirect_to_another_server_is_explained(store, proxy):
    proxy.add("status", code=307, body="", headers={"Location": "https://elsewhere.example/"}, times=100)
    failure = store.fails("invalid", "get", "a")
    assert "elsewhere.example" in failure.hint and len(proxy.requests) == 1


def test_clock_of_the_server_is_used_once(store, proxy):
    ahead = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    proxy.add("status", code=403, s3_code="RequestTimeTooSkewed", headers={"Date": ahead})
    store.put("a", b"x")
    proxy.clear()
    proxy.add("status", code=403, s3_code="RequestTimeTooSkewed", times=100)
    assert "clock" in store.fails("denied", "get", "a").message.lower()


def test_expired_token_is_renewed_once(store, proxy):
    proxy.add("status", code=400, s3_code="ExpiredToken", times=100)
    failure = store.fails("denied", "get", "a")
    assert "expired" in failure.message and len(proxy.requests) == 2


# ---- deletion, parts ----

def test_a_refused_key_does_not_stop_the_others(store, proxy):
    for key in "abc":
        store.put(key, b"x")
    refused = (f"<DeleteResult><Error><Key>{store.prefix}/b</Key><Code>AccessDenied</Code>"
               "<Message>held</Message></Error></DeleteResult>")
    proxy.add("answer", method="POST", path="delete", code=200, body=refused)
    failure = store.fails("denied", "delete", "a", "b", "c")
    assert '"b"' in failure.message and "lock" in failure.hint


def test_keys_that_the_server_could_not_delete_yet_are_sent_again(store, proxy):
    for key in "abc":
        store.put(key, b"x")
    busy = (f"<DeleteResult><Error><Key>{store.prefix}/b</Key><Code>SlowDown</Code>"
            "<Message>busy</Message></Error></DeleteResult>")
    proxy.add("status", method="POST", path="delete", code=200, body=busy)
    store.run("delete", "a", "b", "c")
    assert proxy.count("POST", "delete") == 2
    assert store.run("list", "") == b"1 a\n1 c\n"


def test_a_part_is_repeated(store, proxy):
    content = os.urandom(11 << 20)
    proxy.add("reset", method="PUT", path="partNumber=2")
    proxy.add("status", method="PUT", path="partNumber=3", code=503, s3_code="SlowDown")
    proxy.add("lose", method="PUT", path="partNumber=1")
    store.run("upload", "m", store.file(content), "5MiB", '{"p":1}')
    assert store.run("get", "m") == content
    assert b'meta={"p":1}' in store.run("head", "m")


def test_complete_with_an_error_inside_200_is_an_error(store, proxy):
    content = os.urandom(1000)
    error = "<Error><Code>InternalError</Code><Message>try again</Message></Error>"
    fault = proxy.add("status", method="POST", path="uploadId=", code=200, body=error)
    store.run("upload", "m", store.file(content), "5MiB")
    assert fault.hits == 1 and store.run("get", "m") == content
    error = "<Error><Code>InvalidPart</Code><Message>no such part</Message></Error>"
    proxy.add("status", method="POST", path="uploadId=", code=200, body=error)
    assert "InvalidPart" in store.fails("failed", "upload", "n", store.file(content), "5MiB").message
    store.fails("not found", "head", "n")


def test_a_lost_reply_to_complete_is_found_out(store, proxy):
    content = os.urandom(1000)
    proxy.add("lose", method="POST", path="uploadId=")
    store.run("upload", "m", store.file(content), "5MiB")
    assert store.run("get", "m") == content


def test_abandoned_uploads_are_aborted(ceph, store):
    store.run("upload-leave", "x/m", store.file(b"content"), "5MiB")
    assert store.prefix in ceph.aws("s3api", "list-multipart-uploads", "--bucket", ceph.bucket)
    assert store.run("abort", "y/") == b"count=0\n"
    assert store.run("abort", "x/") == b"count=1\n"
    assert store.prefix not in ceph.aws("s3api", "list-multipart-uploads", "--bucket", ceph.bucket)
