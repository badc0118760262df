"Public storage needs no login; what is not public ends with one message, and nothing half is kept"
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from mlops_nb.errors import UserError
from mlops_nb.workspace import storage
from mlops_nb.workspace.storage import StorageAddress, find_source

FILES = {"data/a.csv": b"a\n1\n", "data/deep/b c.csv": b"b\n2\n", "database.csv": b"no\n"}


class Blobs(BaseHTTPRequestHandler):
    "A container of Azure storage that lists two files a page; `open` is the server's"
    def do_HEAD(self): self.do_GET()

    def do_GET(self):
        parts, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
        if not self.server.open: return self.answer(409, b"PublicAccessNotPermitted")
        if "comp" not in query:
            body = FILES.get(parts.path.removeprefix("/box/").replace("%20", " "))
            return self.answer(404 if body is None else 200, body or b"", self.server.lie)
        names = sorted(name for name in FILES if name.startswith(query.get("prefix", [""])[0]))
        start = int(query.get("marker", ["0"])[0])
        rows = "".join(f"<Blob><Name>{name}</Name><Properties><Content-Length>{len(FILES[name])}</Content-Length>"
                       f"<Etag>e</Etag></Properties></Blob>" for name in names[start:start + 1])
        more = f"<NextMarker>{start + 1}</NextMarker>" if start + 1 < len(names) else "<NextMarker />"
        self.answer(200, f"<EnumerationResults><Blobs>{rows}</Blobs>{more}</EnumerationResults>".encode())

    def answer(self, status, body, lie=0):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + lie))
        self.end_headers()
        if self.command == "GET": self.wfile.write(body)

    def log_message(self, *_): return


@pytest.fixture
def box():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Blobs)
    server.open, server.lie = True, 0
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(server, path):
    return StorageAddress(f"wasbs://box@x/{path}", f"http://127.0.0.1:{server.server_port}/box", "x", path)


def test_a_public_file_and_a_public_folder_need_no_login(box, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "find_login_problem", lambda: pytest.fail("asked for a login"))
    find_source(address(box, "data/a.csv")).fetch(tmp_path/"a.csv")
    find_source(address(box, "data")).fetch(tmp_path/"folder")
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"a.csv": b"a\n1\n", "folder/a.csv": b"a\n1\n", "folder/deep/b c.csv": b"b\n2\n"}


def test_what_is_not_public_ends_with_one_message(box, monkeypatch):
    box.open = False
    monkeypatch.setattr(storage, "find_login_problem", lambda: "no login")
    with pytest.raises(UserError, match="(?s)is not public, or not there, and nobody is logged in.*az login") as error:
        find_source(address(box, "data"))
    assert str(error.value).count("\n") == 1


def test_half_a_download_is_an_error(box, tmp_path):
    box.lie = 5
    with pytest.raises(UserError, match="cannot read wasbs://box@x/data/a.csv"):
        find_source(address(box, "data/a.csv")).fetch(tmp_path/"a.csv")


def test_a_login_that_does_not_answer_is_not_waited_for(monkeypatch):
    from azure import identity
    asked, answered = threading.Event(), threading.Event()
    class Slow:
        def __init__(self, **_): pass
        def get_token(self, scope):
            asked.set()
            answered.wait(60)
    monkeypatch.setattr(identity, "DefaultAzureCredential", Slow)
    monkeypatch.setattr(storage, "SECONDS", 2)
    assert "no login was found within 2 s" in storage.find_login_problem() and asked.is_set()
    answered.set()
