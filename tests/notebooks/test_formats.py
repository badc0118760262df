"Jupyter's nbformat without the grammars that nothing asks for: a step does not pay, and every check answers as it did"
import json
import subprocess
import sys

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
