"""The image of a registered version: built and asked, wherever podman or docker works and a base image can be had

Where no registry can be reached, name a base image that is there already in MLOPS_NB_BASE_IMAGE. One can be made
from Debian's packages:

    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip bookworm root
    tar -C root -c . | podman import - localhost/debian-python:bookworm

Options of the engine's build and run go into MLOPS_NB_BUILD_OPTIONS and MLOPS_NB_RUN_OPTIONS, a pip.conf into
PIP_CONFIG_FILE.
"""
import json
import os
import re
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from mlops_nb.errors import UserError
from mlops_nb.models import saving, seal
from mlops_nb.serving.image import find_engine, write_context

from tests.support import ROOT
from tests.support.serving import flights, register_models

BASE = os.environ.get("MLOPS_NB_BASE_IMAGE") or re.findall(r"ARG BASE=(\S+)",
                                                           (ROOT / "pipelines/deployment/Dockerfile").read_text())[0]
BUILD, RUN = (shlex.split(os.environ.get(f"MLOPS_NB_{name}_OPTIONS", "")) for name in ("BUILD", "RUN"))


@pytest.fixture(scope="module")
def program():
    "An engine that works and has the base image"
    try: found = find_engine()
    except UserError as error: pytest.skip(f"no container engine: {error.what}")
    if subprocess.run([found, "image", "inspect", BASE], capture_output=True).returncode:
        try: pulled = subprocess.run([found, "pull", BASE], text=True, capture_output=True, timeout=300)
        except subprocess.TimeoutExpired: pytest.skip(f"{found} pull {BASE} takes more than 5 minutes")
        if pulled.returncode:
            pytest.skip(
                f"{found} cannot pull {BASE}: {pulled.stderr.strip().splitlines()[-1]}; see MLOPS_NB_BASE_IMAGE in "
                f"this file"
            )
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    "A project with two registered versions"
    root = tmp_path_factory.mktemp("image") / "project"
    root.mkdir()
    (root / "settings.ini").write_text("[project]\nexperiment = flights\nmodel = flight-delay\n")
    for name in ("pipelines", "mlops_nb"): (root / name).symlink_to(ROOT / name)
    register_models(root)
    return root


def test_what_the_image_is_built_from(root, tmp_path):
    found = write_context(root, "flight-delay:1", tmp_path)
    assert seal.verify(tmp_path / "model", found["digest"]) == found["digest"]
    assert (tmp_path / "requirements.txt").read_bytes() == (
        ROOT / "pipelines/environment/requirements.txt"
    ).read_bytes()
    assert (tmp_path / "code/mlops_nb/deployment/score.py").is_file() and not [*tmp_path.rglob("__pycache__")]


@pytest.fixture(scope="module")
def image(root, program):
    words = ["image", "flight-delay:1", "--json", "--engine", program, "--base", BASE, "--tag",
             "localhost/flight-delay-test:1"]
    words += ["--pip-conf", os.environ["PIP_CONFIG_FILE"]] if os.environ.get("PIP_CONFIG_FILE") else []
    done = subprocess.run([Path(sys.executable).with_name("mlops-nb"), *words, "--", *BUILD], cwd=root, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    yield json.loads(done.stdout[done.stdout.rindex("\n{") + 1:])
    subprocess.run([program, "image", "rm", "--force", "localhost/flight-delay-test:1"], capture_output=True)


def answer(rows, seconds: float = 300):
    "The reply of the container, as soon as it gives one"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError):  # it accepts connections before its model is loaded
            return json.loads(urlopen(Request("http://127.0.0.1:5001/score", json.dumps(rows).encode(),
                                              {"Content-Type": "application/json"}), timeout=10).read())
        time.sleep(0.5)
    raise AssertionError("the container does not answer")


def test_the_image_answers_as_the_model_does(root, program, image):
    X, _ = flights()
    rows = [{k: None if v != v else v for k, v in row.items()} for row in X.head(20).to_dict("records")]
    ports = [] if "--network" in RUN else ["--publish", "127.0.0.1:5001:5001"]
    id = subprocess.run([program, "run", "--detach", *ports, *RUN, image["tag"]], text=True, capture_output=True,
                        check=True).stdout.strip()
    try:
        own = saving.load(root / "model1").predict_proba(X.head(20))[:, 1]
        assert [row["probability"] for row in answer(rows)] == pytest.approx(own, abs=1e-9)
        inside = lambda *words: subprocess.run([program, "exec", id, *words], text=True, capture_output=True)
        assert inside("id", "-u").stdout.strip() == "10001"
        assert inside("sh", "-c", "echo x >> /app/models/model/MLmodel").returncode != 0
        check = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:5001/').status)"
        assert inside("python", "-c", check).stdout.strip() == "200"
    finally: subprocess.run([program, "rm", "--force", id], capture_output=True)


def test_a_server_with_another_model_than_the_registered_one_does_not_start(program, image):
    changed = [
        "sh",
        "-c",
        "echo x >> /app/models/model/requirements.txt && exec gunicorn --bind 127.0.0.1:5002 "
        "azureml_inference_server_http.server.entry:app",
    ]
    done = subprocess.run([program, "run", "--rm", "--user", "0", *RUN, image["tag"], *changed], text=True,
                          capture_output=True, timeout=300)
    assert done.returncode and "requirements.txt was changed" in done.stdout + done.stderr
