"What a project's README says about asking the model: its commands run as they stand, and its answer is the real one"
import json
import os
import re
import subprocess

import pytest

from tests.support import BIN
from tests.support.projects import command, yields


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A regression whose model is trained and served"
    folder = tmp_path_factory.mktemp("readme")
    command("new", "sugar", "--package", "sugar", "--data", yields(folder / "diabetes.parquet"), "--target", "target",
            cwd=folder)
    command("run", "pipelines/training/pipeline.yml", cwd=folder / "sugar")
    yield folder / "sugar"
    command("endpoint", "stop", "sugar", cwd=folder / "sugar")


def test_the_readme_shows_what_the_endpoint_answers(project):
    before = (project / "README.md").read_text()
    assert "sugar:1 answers" not in before
    said = command("deploy", cwd=project).stdout
    readme = (project / "README.md").read_text()
    shown = re.search(r"sugar:1 answers `(\[.*\])`\.", readme)
    starts = ("    uri=", "    key=", "    curl ", "      -d")
    lines = [line[4:] for line in readme.splitlines() if line.startswith(starts)]
    asked = subprocess.run(["bash", "-ec", "\n".join(lines)], cwd=project, capture_output=True, text=True, check=True,
                           env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"})
    assert len(lines) == 4 and json.loads(asked.stdout) == json.loads(shown[1])
    assert json.loads(asked.stdout)[0]["prediction"] > 0 and "README.md: what sugar:1 answers" in said
    assert "nothing is stale" in command("check", cwd=project).stdout
    # A later deployment leaves it alone: what stands there is the answer of version 1
    assert "README.md" not in command("deploy", cwd=project).stdout
    assert (project / "README.md").read_text() == readme
