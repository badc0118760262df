"The copy of the project that a tutorial works in"
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mlops_nb.site.workbench import remove_copy

from tests.support.serving import Endpoints, make_workspace


def connect(uri: str):
    address = urlsplit(uri)
    socket.create_connection((address.hostname, address.port)).close()


def test_a_tutorial_that_failed_leaves_no_endpoint(tmp_path):
    pytest.importorskip("fcntl", reason="endpoints need a POSIX system")
    root = make_workspace(tmp_path / "copy/project/harvest")
    endpoints = Endpoints(root)
    endpoints.deploy(root / "endpoint.yml", root / "deployment.yml")
    uri = endpoints.show("echo").scoring_uri
    connect(uri)
    remove_copy(tmp_path / "copy", Path.cwd())
    assert not (tmp_path / "copy").exists()
    with pytest.raises(ConnectionRefusedError): connect(uri)
