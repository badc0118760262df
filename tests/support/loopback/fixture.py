"The fixture `azure`: one server for the session, an empty Azure for each test"
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory):
    "The loopback Azure; skipped where npm cannot fetch its storage"
    from .bench import Bench
    from .storage import Unavailable
    try: bench = Bench(tmp_path_factory.mktemp("azure"))
    except Unavailable as reason: pytest.skip(str(reason))
    yield bench
    if to := os.environ.get("LOOPBACK_REPORT"): Path(to).write_text(bench.report())
    bench.close()


@pytest.fixture
def azure(azure_server):
    "The loopback Azure, with two workspaces and nothing in them; a request to any other host fails the test"
    azure_server.reset()
    yield azure_server
    azure_server.end_executions()
    assert not azure_server.proxy.refused, f"left the loopback Azure: {azure_server.proxy.refused}"
    findings = "\n".join(dict.fromkeys(azure_server.findings))
    assert not azure_server.findings, f"not what the specification says:\n{findings}"
    assert not azure_server.storage.overwritten, f"blobs were overwritten: {azure_server.storage.overwritten}"
