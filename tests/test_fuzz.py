"What strangers send ends in a result or one message: the kept corpus each time, ten minutes of fuzzing in `make long`"
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.fuzzing import TARGETS, try_one

CORPUS = ROOT/"tests"/"corpus"
SEEDS = [pytest.param(path.parent.name, path, id=f"{path.parent.name}/{path.name}")
         for path in sorted(CORPUS.glob("*/*"))]
SECONDS = int(os.environ.get("FUZZ_SECONDS", "600"))     # for each target


@pytest.mark.parametrize("name, seed", SEEDS)
def test_what_was_found_once_is_mended(name, seed): try_one(name, seed.read_bytes())


def test_every_target_has_a_corpus(): assert {path.name for path in CORPUS.iterdir()} == {*TARGETS}


@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("atheris"),
                    reason="atheris, which makes the inputs, has wheels for Linux only")
@pytest.mark.parametrize("name", TARGETS)
def test_fuzzing_finds_nothing(name, tmp_path):
    found, work = tmp_path/"found", tmp_path/"corpus"
    for folder in (found, work): folder.mkdir()
    words = [sys.executable, "-m", "tests.support.fuzzing", name, work, CORPUS/name, f"-max_total_time={SECONDS}",
             "-timeout=20", "-rss_limit_mb=4000", "-max_len=4096", f"-artifact_prefix={found}/"]
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True)
    inputs = {path.name: path.read_bytes()[:2000] for path in Path(found).iterdir()}
    assert (inputs, done.returncode) == ({}, 0), done.stderr[-4000:]
