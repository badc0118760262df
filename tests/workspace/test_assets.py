"workspace.assets: a download is whole, asked for again, and never shared half"
import base64
import hashlib
import http.server
import threading
from contextlib import contextmanager

import pytest

from mlops_nb.errors import UserError
from mlops_nb.workspace.assets import copy_whole, download
from mlops_nb.workspace.workspace import Workspace


class Site:
    "What a server answers; a test changes it"
    content, etag, checksum, cut, status, chunked = b"first", '"1"', "", 0, 200, False
    asked: list

    def __init__(self): self.asked = []


@contextmanager
def serving(site: Site):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            site.asked.append(self.headers.get("If-None-Match"))
            same = site.etag and self.headers.get("If-None-Match") == site.etag
            self.send_response(304 if same else site.status)
            if site.etag: self.send_header("ETag", site.etag)
            if site.checksum: self.send_header(*site.checksum.split(": "))
            body = b"" if same else site.content
            if site.chunked: self.send_header("Transfer-Encoding", "chunked")
            else: self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if site.chunked: self.wfile.write(b"%x\r\n" % (len(body) + site.cut) + body)
            else: self.wfile.write(body[:len(body) - site.cut])
            self.close_connection = True

        def log_message(self, *_): pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f"http://127.0.0.1:{server.server_address[1]}/flights.csv"
    finally:
        server.shutdown()
        server.server_close()


def kept(root): return sorted(path.name for path in (root/".mlops"/"downloads").rglob("*") if path.suffix != ".lock")


@pytest.mark.parametrize("chunked", [False, True])
def test_half_a_download_is_refused_and_leaves_nothing(tmp_path, chunked):
    site = Site()
    site.cut, site.chunked = 2, chunked
    with serving(site) as uri, pytest.raises(UserError, match="cannot download .*(only 3 of 5 bytes|it broke off)"):
        download(Workspace(tmp_path), uri)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("header, name", [("Content-MD5", "md5"), ("Content-Digest", "sha256")])
def test_a_checksum_that_is_given_must_fit(tmp_path, header, name):
    def said(content):
        digest = base64.b64encode(hashlib.new(name, content).digest()).decode()
        return f"{header}: {digest}" if name == "md5" else f"{header}: sha-256=:{digest}:"
    site = Site()
    site.checksum = said(b"other")
    with serving(site) as uri:
        with pytest.raises(UserError, match=header): download(Workspace(tmp_path), uri)
        site.checksum = said(site.content)
        assert download(Workspace(tmp_path), uri).read_bytes() == b"first"


def test_a_url_that_changed_is_noticed_and_a_reader_goes_on(tmp_path):
    site = Site()
    with serving(site) as uri:
        first = download(Workspace(tmp_path), uri)
        assert download(Workspace(tmp_path), uri) == first and site.asked == [None, '"1"']
        site.content, site.etag = b"second", '"2"'
        second = download(Workspace(tmp_path), uri)
        assert (first.read_bytes(), second.read_bytes()) == (b"first", b"second")
        site.etag = ""      # a server without ETag is asked for the content
        site.content = b"third"
        assert download(Workspace(tmp_path), uri).read_bytes() == b"third"


def test_one_command_asks_once(tmp_path):
    site, workspace = Site(), Workspace(tmp_path)
    with serving(site) as uri:
        for _ in range(3): download(workspace, uri)
    assert len(site.asked) == 1


def test_without_the_server_the_copy_is_used_and_that_is_said(tmp_path, capsys):
    site = Site()
    with serving(site) as uri:
        download(Workspace(tmp_path), uri)
        site.status, site.etag = 503, ""
        assert download(Workspace(tmp_path), uri).read_bytes() == b"first"
    assert "503" in capsys.readouterr().err
    assert download(Workspace(tmp_path), uri).read_bytes() == b"first"
    assert "the copy of 20" in capsys.readouterr().err


def test_what_the_server_refuses_is_no_reason_for_an_old_copy(tmp_path):
    site = Site()
    with serving(site) as uri:
        download(Workspace(tmp_path), uri)
        site.status, site.etag = 404, ""
        with pytest.raises(UserError, match="404"): download(Workspace(tmp_path), uri)


def test_a_copy_that_was_cut_short_is_not_used(tmp_path):
    site = Site()
    with serving(site) as uri:
        download(Workspace(tmp_path), uri).write_bytes(b"fi")
        assert download(Workspace(tmp_path), uri).read_bytes() == b"first"


def test_two_downloads_at_once_share_nothing(tmp_path):
    site, found = Site(), []
    site.content = b"x" * 3_000_000
    with serving(site) as uri:
        def fetch(): found.append(download(Workspace(tmp_path), uri).read_bytes() == site.content)
        threads = [threading.Thread(target=fetch) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    assert found == [True] * 8


def test_a_copy_of_a_folder_replaces_the_old_one(tmp_path):
    for name in ("one", "two"):
        (tmp_path/name).mkdir()
        (tmp_path/name/name).write_text(name)
    copy_whole(tmp_path/"one", tmp_path/"to")
    copy_whole(tmp_path/"two", tmp_path/"to")
    assert [path.name for path in (tmp_path/"to").iterdir()] == ["two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "to", "two"]
