"""A CONNECT proxy that ends TLS itself, with certificates of a throw-away authority, and refuses every host it does
not know"""
import json
import re
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import trustme

REGION = "eastus"
NAMES = ["management.azure.com", "login.microsoftonline.com", "*.api.azureml.ms", "*.experiments.azureml.net",
         "*.blob.core.windows.net", "*.queue.core.windows.net", "*.inference.ml.azure.com",
         "azuremlschemasprod.azureedge.net", f"*.{REGION}.inference.ml.azure.com"]
HOSTS = {  # Who answers for a host
    "arm": re.compile(r"management\.azure\.com"),
    "login": re.compile(r"login\.microsoftonline\.com"),
    "data": re.compile(r"[\w-]+\.api\.azureml\.ms|cert-[\w-]+\.experiments\.azureml\.net"),
    "scoring": re.compile(r"[\w.-]+\.inference\.ml\.azure\.com"),
    "schemas": re.compile(r"azuremlschemasprod\.azureedge\.net"),
    "blob": re.compile(r"[\w-]+\.blob\.core\.windows\.net"),
    "queue": re.compile(r"[\w-]+\.queue\.core\.windows\.net"),
}


@dataclass
class Request:
    "What a client asked"
    method: str
    host: str
    target: str  # Path and query as they were sent
    headers: dict  # Names in lower case
    body: bytes = b""

    @property
    def path(self) -> str: return urlsplit(self.target).path
    @property
    def query(self) -> dict:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query,
                                                              keep_blank_values=True).items()}
    @property
    def json(self): return json.loads(self.body) if self.body else None
    @property
    def version(self) -> str: return self.query.get("api-version", "")
    @property
    def kind(self) -> str | None:
        "Which part of Azure the host belongs to; None where it is no part of it"
        return next((kind for kind, pattern in HOSTS.items() if pattern.fullmatch(self.host)), None)


@dataclass
class Answer:
    "What the stand-in says"
    status: int = 200
    body: bytes | dict | list | str | None = None
    headers: dict = field(default_factory=dict)
    drop: bool = False  # Hang up instead of answering

    @property
    def data(self) -> bytes:
        if self.body is None: return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()

    @property
    def kind(self) -> str:
        return "application/octet-stream" if isinstance(self.body, bytes) else "application/json; charset=utf-8"


class Authority:
    "A certificate authority that lives as long as one bench"
    def __init__(self, folder: Path):
        authority = trustme.CA()
        self.bundle, self.context = folder / "ca.pem", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.cert_pem.write_to_path(self.bundle)
        authority.issue_cert(*NAMES).configure_cert(self.context)


class Connection(BaseHTTPRequestHandler):
    "One client's connection: a CONNECT first, then requests inside TLS"
    protocol_version = "HTTP/1.1"
    host = None
    timeout = 120

    def do_CONNECT(self):
        host = self.path.rpartition(":")[0]
        if Request("CONNECT", host, "", {}).kind is None:
            self.server.refused.append(host)
            return self.send_error(403, f"{host} is not part of the loopback Azure")
        self.send_response(200)
        self.end_headers()
        try: self.connection = self.server.authority.context.wrap_socket(self.connection, server_side=True)
        except OSError: return self.hang_up()
        self.rfile, self.wfile, self.host = self.connection.makefile("rb"), self.connection.makefile("wb", 0), host
        self.close_connection = False

    def do_any(self):
        if self.host is None:
            self.server.refused.append(self.path)
            return self.send_error(403, "not part of the loopback Azure")
        if self.headers.get("Expect", "").lower() == "100-continue": self.send_response_only(100), self.end_headers()
        cut = self.server.cut(self.command, self.host, self.path)
        if cut:
            self.rfile.read(min(cut, int(self.headers.get("Content-Length") or 0)))
            return self.hang_up()
        request = Request(self.command, self.host, self.path,
                          {name.lower(): value for name, value in self.headers.items()}, self.content())
        answer = self.server.answer(request)
        if answer.drop: return self.hang_up()
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.kind, **answer.headers}.items(): self.send_header(name, str(value))
        if "Content-Length" not in answer.headers: self.send_header("Content-Length", str(len(answer.data)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(answer.data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_any

    def content(self) -> bytes:
        "The body, whole"
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip(): pass
        return b"".join(parts)

    def hang_up(self):
        "Close without a word"
        self.close_connection = True
        try: self.connection.shutdown(2)
        except OSError: pass

    def finish(self):
        try: super().finish()
        finally: self.connection.close()

    def log_message(self, *_):
        "Says nothing"


class Proxy(ThreadingHTTPServer):
    "Listens on a free port of this machine; `answer` gets every request, `cut` says after how many bytes to hang up"
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, authority: Authority, answer, cut=lambda method, host, target: 0, port: int = 0):
        super().__init__(("127.0.0.1", port), Connection)
        self.authority, self.answer, self.cut = authority, answer, cut
        self.refused: list[str] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request, address):
        "A client that goes away is no error of the bench; anything else is, and the test sees it"
        import sys
        error = sys.exc_info()[1]
        if not isinstance(error, OSError): self.refused.append(f"the stand-in failed: {error!r}")

    @property
    def url(self) -> str: return f"http://127.0.0.1:{self.server_port}"
