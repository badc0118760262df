"A stand-in for the tracking server of Azure ML: a real MLflow server behind a proxy that lacks what Azure ML lacks"
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.loopback.storage import free_port
from tests.support.loopback.tracking import MISSING

ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/"


class Proxy(ThreadingHTTPServer):
    "The proxy, with what it has seen"
    upstream: int  # The port of the real server
    url: str
    seen: list[tuple[str, str]]  # Methods and paths
    uploaded: set[str]
    guard: threading.Lock


class Azure(BaseHTTPRequestHandler):
    "Passes requests on, answers 404 to MISSING and 409 to a second upload to one path"
    protocol_version = "HTTP/1.1"
    server: Proxy

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.guard:
            self.server.seen.append((self.command, self.path))
            refused = self.refusal()
            self.server.uploaded.update({self.path} if self.command == "PUT" else ())
        if refused:
            return self.answer(refused, b'{"error": {"code": "UserError", "message": "no such route"}}',
                               "application/json")
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "accept-encoding")}
        upstream.request(self.command, self.path, body, headers)
        reply = upstream.getresponse()
        self.answer(reply.status, reply.read(), reply.getheader("Content-Type", "application/octet-stream"))
        upstream.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

    def refusal(self) -> int:
        "The status to refuse the request with, or 0"
        if any(part in self.path for part in MISSING):
            return 404
        twice = self.command == "PUT" and self.path.startswith(ARTIFACT) and self.path in self.server.uploaded
        return 409 if twice else 0

    def answer(self, status: int, body: bytes, kind: str):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        "Says nothing"


def wait_for(port: int, server: subprocess.Popen):
    "Return when the server answers"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and server.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"mlflow server did not start; exit code {server.poll()}")


@contextmanager
def azure_like(folder: Path):
    "Run both servers; gives the proxy, whose .url is the tracking address and whose .seen lists the requests"
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination",
               str(folder / "artifacts")]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PYTEST_"))} | {
        "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(port, server)
        proxy = Proxy(("127.0.0.1", 0), Azure)
        proxy.upstream, proxy.seen, proxy.uploaded, proxy.guard = port, [], set(), threading.Lock()
        proxy.url = f"http://127.0.0.1:{proxy.server_port}"
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()
        proxy.server_close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)
