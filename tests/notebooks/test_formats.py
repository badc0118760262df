"Jupyter's nbformat without the grammars that nothing asks for: a step does not pay, and every check answers as it did"
import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

STEP = "import mlops_nb.step, mlops_nb.notebooks.engine, mlops_nb.notebooks.page"
CHECKS = """
import json, sys
from jsonschema import FormatChecker
before = 'rfc3987_syntax' in sys.modules
checker, texts = FormatChecker(), ['http://ex.com/ä', 'http://exa mple', '../ä', '', 'urn:x', '%zz']
answers = [[checker.conforms(text, name) for text in texts] for name in ('iri', 'iri-reference', 'uri')]
from rfc3987_syntax import parse
print(json.dumps([before, answers, parse('iri', 'http://ex.com/').data]))
"""


def checks(beginning: str) -> list:
    done = subprocess.run([sys.executable, "-c", beginning + CHECKS], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_step_builds_no_grammar_and_the_checks_answer_as_ever():
    pytest.importorskip("rfc3987_syntax", reason="comes with JupyterLab")
    (early, plain, _), (before, answers, parsed) = checks(""), checks(STEP)
    assert early and not before
    assert answers == plain and plain[0] == [True, False, False, False, True, False]
    assert parsed == "iri"      # whoever imports it afterwards gets the real one


PAPERMILL = """
import json, sys
early = [name for name in ('requests', 'nbclient', 'jupyter_client', 'papermill.clientwrap') if name in sys.modules]
import nbformat, papermill.engines
from papermill.engines import NotebookExecutionManager, PapermillNotebookClient as Used
from papermill.iorw import HttpHandler
read = HttpHandler().read(sys.argv[1])
client = Used(NotebookExecutionManager(nbformat.v4.new_notebook()))
from papermill.clientwrap import PapermillNotebookClient
import requests
print(json.dumps([early, read, type(client) is PapermillNotebookClient, requests.get(sys.argv[1]).text]))
"""


class Notebooks(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *said): pass


def test_papermill_reads_addresses_and_talks_to_kernels_as_ever_but_imports_that_at_the_first_call():
    with HTTPServer(("127.0.0.1", 0), Notebooks) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        words = [sys.executable, "-c", STEP + PAPERMILL, f"http://127.0.0.1:{server.server_port}/a.ipynb"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        server.shutdown()
    assert json.loads(done.stdout) == [[], "{}", True, "{}"]
