"""workspace.mlflow_store, models.tracking and models.registry: against SQLite, against the stand-in for Azure ML,
and with real processes"""
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from IPython.display import Image
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from mlops_nb.errors import UserError
from mlops_nb.models import registry, saving, seal, tracking
from mlops_nb.workspace import mlflow_store

from tests.support.mlflow_azure import azure_like, free_port

X = pd.DataFrame({"distance": [100.0, 200, 300, 400], "hour": [6.0, 12, 18, 22]})


def model_folder(folder: Path, C: float = 1.0) -> Path:
    "A sealed model"
    saving.save(LogisticRegression(C=C).fit(X, [0, 0, 1, 1]), folder, X_example=X)
    return folder


def opened_by_azure(address: str) -> str:
    "Open a run on a server, as Azure ML does for a step"
    client = mlflow_store.make_client(address)
    return client.create_run(mlflow_store.experiment_id(client, address, "tests"), run_name="step").info.run_id


def job(monkeypatch, address: str) -> str:
    "Open a run as the runner does and put it in the environment as a step finds it"
    run_id = mlflow_store.open_run(address, "tests",
                                   "step") if address.startswith("sqlite") else opened_by_azure(address)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return run_id


@pytest.fixture
def local(tmp_path, monkeypatch):
    "A step's environment in a workspace whose path has a space"
    job(monkeypatch, mlflow_store.tracking_uri(tmp_path / "my project"))
    return tmp_path


@pytest.fixture(scope="module")
def azure(tmp_path_factory):
    "One stand-in for the tests of this module"
    with azure_like(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture(params=["sqlite", "azure"])
def step(request, tmp_path, monkeypatch):
    "A step's environment, once on a laptop and once in Azure ML"
    address = mlflow_store.tracking_uri(tmp_path) if request.param == "sqlite" else request.getfixturevalue("azure").url
    return job(monkeypatch, address)


def python(code: str, *args, **options) -> subprocess.Popen:
    "A process that runs the code"
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE,
                            text=True, **options)


def finish(process: subprocess.Popen) -> str:
    "What it printed, if it succeeded"
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


# The store


def test_importing_the_modules_does_not_import_mlflow():
    code = (
        "import sys, mlops_nb.models.registry; print([m for m in ('mlflow', 'pandas', 'sklearn') if m in sys.modules])"
    )
    assert finish(python(code)).strip() == "[]"


def test_processes_that_create_the_store_at_once_all_succeed(tmp_path):
    code = """import sys, time
from pathlib import Path
import mlflow
from mlops_nb.workspace import mlflow_store as store
Path(sys.argv[2]).touch()
while not Path(sys.argv[3]).exists(): time.sleep(0.001)
print(store.open_run(store.tracking_uri(sys.argv[1]), 'shared', 'run'))"""
    ready = [tmp_path / f"ready{n}" for n in range(3)]
    workers = [python(code, tmp_path, path, tmp_path / "go") for path in ready]
    while not all(path.exists() for path in ready):
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.05)
    (tmp_path / "go").touch()
    runs = {finish(worker).strip() for worker in workers}
    assert len(runs) == 3
    client = mlflow_store.make_client(mlflow_store.tracking_uri(tmp_path))
    assert {client.get_run(r).info.experiment_id
            for r in runs} == {client.get_experiment_by_name("shared").experiment_id}


def test_a_store_whose_creation_was_killed_is_created_again(tmp_path):
    # with no first one to copy
    worker = python(
        "import sys; sys.prefix = sys.argv[1]; from mlops_nb.workspace import mlflow_store as store; "
        "store.create_store(store.tracking_uri(sys.argv[1]))",
        tmp_path,
    )
    database = tmp_path / ".mlops" / "mlflow.db"
    while not database.with_suffix(".new").exists():
        assert worker.poll() is None
        time.sleep(0.005)
    worker.kill()
    worker.communicate()
    assert not database.exists()
    assert mlflow_store.open_run(mlflow_store.tracking_uri(tmp_path), "tests", "after")


def test_an_old_log_of_writes_is_not_played_into_a_new_store(tmp_path):
    address, log = mlflow_store.tracking_uri(tmp_path), tmp_path / ".mlops" / "mlflow.db-wal"
    with closing(mlflow_store.keep_open(address)):
        mlflow_store.open_run(address, "tests", "before")
        old = log.read_bytes()
    (tmp_path / ".mlops" / "mlflow.db").unlink()
    log.write_bytes(old)
    mlflow_store.create_store(address)
    with closing(sqlite3.connect(tmp_path / ".mlops" / "mlflow.db")) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_processes_that_log_at_once_lose_nothing(tmp_path):
    address = mlflow_store.tracking_uri(tmp_path)
    runs = [mlflow_store.open_run(address, "tests", f"run{n}") for n in range(2)]
    code = """from mlops_nb.models import tracking
with tracking.run():
    for step in range(40): tracking.log_metrics({'loss': 1 / (step + 1)}, step=step)"""
    workers = [python(code, env={**os.environ, "MLFLOW_TRACKING_URI": address, "MLFLOW_RUN_ID": run}) for run in runs]
    for worker in workers:
        finish(worker)
    assert all(mlflow_store.metric_history(address, run, "loss") == [(s, 1 / (s + 1)) for s in range(40)]
               for run in runs)


@pytest.mark.parametrize("name", ["with space", "hash#tag", "umläut"])
def test_any_folder_name_works(tmp_path, monkeypatch, name):
    root = tmp_path / name
    run_id = job(monkeypatch, mlflow_store.tracking_uri(root))
    with tracking.run():
        tracking.log_text("hello", "notes/hello.txt")
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (root / ".mlops" / "mlartifacts" / run_id / "artifacts" / "notes" / "hello.txt").read_text() == "hello"
    assert (root / ".mlops" / "mlflow.db").exists()


@pytest.mark.parametrize("name", ["per%20cent", "what?"])
def test_a_folder_that_mlflow_would_misread_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="accepted: a path without"):
        mlflow_store.tracking_uri(tmp_path / name)


def test_no_connection_stays_open(tmp_path):
    "A forked step must not inherit one"
    mlflow_store.open_run(mlflow_store.tracking_uri(tmp_path), "tests", "run")
    names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
             if os.path.exists(f"/proc/self/fd/{fd}")]
    assert not [n for n in names if n.startswith(str(tmp_path))]


def test_a_run_ends_as_told(tmp_path):
    address = mlflow_store.tracking_uri(tmp_path)
    run_id = mlflow_store.open_run(address, "tests", "run", tags={"commit": "0a1b", "environment": "9f"})
    mlflow_store.close_run(address, run_id, "KILLED")
    run = mlflow_store.make_client(address).get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("KILLED", "run")
    assert (run.data.tags["commit"], run.data.tags["environment"]) == ("0a1b", "9f")
    with pytest.raises(UserError, match="accepted: FINISHED, FAILED, KILLED"):
        mlflow_store.close_run(address, run_id, "Completed")


# The page


def test_ui_refuses_a_taken_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(UserError, match="port .* is taken"):
        mlflow_store.serve_ui(tmp_path, port=other.getsockname()[1], open_browser=False)
    assert not (tmp_path / ".mlops").exists()


def test_ui_serves_and_leaves_nothing_behind(tmp_path):
    port = free_port()
    code = ("import sys; from mlops_nb.workspace import mlflow_store as store; "
            "store.serve_ui(sys.argv[1], port=int(sys.argv[2]), open_browser=False)")
    process = python(code, tmp_path, port)
    page = b""
    for _ in range(600):
        try:
            page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
            break
        except OSError:
            time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert b"MLflow" in page and process.returncode == 143
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert [p.name for p in tmp_path.iterdir()] == [".mlops"]


# Runs


def test_a_step_logs_to_the_run_of_its_job(step):
    with tracking.run() as first:
        tracking.log_params({"rate": 0.1, "name": "007"})
        with tracking.run() as inner:
            tracking.log_metrics({"auc": 0.5}, step=1)
    with tracking.run() as second:
        tracking.log_metrics({"auc": 0.75}, step=2)
        tracking.log_dataset({"rows": 3, "sha256": "ab"})
    assert {first.info.run_id, inner.info.run_id, second.info.run_id} == {step}
    address = os.environ["MLFLOW_TRACKING_URI"]
    run = mlflow_store.make_client(address).get_run(step)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"rate": "0.1", "name": "007"}
    assert (run.data.tags["dataset.rows"], run.data.tags["dataset.sha256"]) == ("3", "ab")
    assert [(one.step, one.value) for one in mlflow_store.make_client(address).get_metric_history(step, "auc")] == [
        (1, 0.5),
        (2, 0.75),
    ]


def test_a_failing_cell_leaves_the_run_to_the_runner(local):
    with pytest.raises(ZeroDivisionError), tracking.run():
        _ = 1 / 0
    run = mlflow_store.make_client(os.environ["MLFLOW_TRACKING_URI"]).get_run(os.environ["MLFLOW_RUN_ID"])
    assert run.info.status == "RUNNING"


def test_logging_outside_a_run_is_refused(local):
    calls = [lambda: tracking.log_params({"a": 1}), lambda: tracking.log_metrics({"a": 1}),
             lambda: tracking.log_dataset({"a": 1}), lambda: tracking.log_figure(Figure(), "a.png"),
             lambda: tracking.log_text("a", "a.txt")]
    for call in calls:
        with pytest.raises(UserError, match="with run"):
            call()


def test_smoke_runs_have_their_own_store(tmp_path):
    (tmp_path / "settings.ini").touch()
    here = tmp_path / "nbs" / "training"
    here.mkdir(parents=True)
    code = """from mlops_nb.workspace import mlflow_store as store; from mlops_nb.models import tracking
with tracking.run() as good: tracking.log_metrics({'a': 1})
try:
    with tracking.run() as bad: raise KeyError
except KeyError: pass
client = store.make_client(tracking.mlflow().get_tracking_uri())
print([client.get_run(r.info.run_id).info.status for r in (good, bad)])"""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    assert finish(python(code, cwd=here, env=env)).strip() == "['FINISHED', 'FAILED']"
    assert (tmp_path / ".mlops" / "sample" / "mlflow" / "mlflow.db").exists()
    assert not (tmp_path / ".mlops" / "mlflow.db").exists() and not list(here.iterdir())


def test_an_artifact_path_is_written_once(step, tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    with tracking.run():
        with pytest.raises(UserError, match="not empty"):
            tracking.log_folder(folder, "report")
        (folder / "a.txt").write_text("a")
        tracking.log_folder(folder, "report")
        tracking.log_figure(Figure(), "plots/deep/a.png")
        tracking.log_figure(Image(b"drawn", format="png"), "plots/deep/b.png")
        tracking.log_text("b", "plots/b.txt")
        again = [lambda: tracking.log_folder(folder, "report"),
                 lambda: tracking.log_figure(Figure(), "plots/deep/a.png"),
                 lambda: tracking.log_figure(Image(b"again", format="png"), "plots/deep/b.png"),
                 lambda: tracking.log_text("c", "plots/b.txt"), lambda: tracking.log_text("c", "report/a.txt")]
        for call in again:
            with pytest.raises(UserError, match="was logged before"):
                call()


# The registry


def test_the_whole_life_of_a_version(step, tmp_path, request):
    name = f"flights-{request.node.callspec.params['step']}"
    folder = model_folder(tmp_path / "model")
    assert registry.list_versions(name) == [] and registry.find_champion(name) is None
    with tracking.run() as run:
        number = registry.register(folder, name, {"auc": 0.7})
    found = registry.list_versions(name)[0]
    assert (found.version, found.run_id, found.digest,
            found.tags["auc"]) == (number, run.info.run_id, seal.digest(folder), "0.7")
    assert found.source == f"{run.info.artifact_uri}/model"
    assert registry.find_champion(name) is None
    registry.promote(name, number)
    assert registry.find_champion(name).version == number
    to = registry.fetch(name, number, tmp_path / "fetched")
    assert saving.verify(to, found.digest) == found.digest
    assert (saving.load(to, found.digest).predict_proba(X) == saving.load(folder).predict_proba(X)).all()


def test_a_retried_step_makes_no_second_version(step, tmp_path, request):
    name = f"retry-{request.node.callspec.params['step']}"
    folder = model_folder(tmp_path / "model")
    with tracking.run():
        assert registry.register(folder, name) == registry.register(folder, name) == 1
    assert len(registry.list_versions(name)) == 1


def test_a_step_that_died_between_upload_and_version_is_retried(step, tmp_path, monkeypatch, request):
    import mlflow
    name = f"died-{request.node.callspec.params['step']}"
    folder = model_folder(tmp_path / "model")
    with monkeypatch.context() as patch, tracking.run(), pytest.raises(KeyboardInterrupt):
        patch.setattr(mlflow.MlflowClient, "create_model_version", lambda *a,
                      **k: (_ for _ in ()).throw(KeyboardInterrupt))
        registry.register(folder, name)
    assert registry.list_versions(name) == []
    with tracking.run():
        assert registry.register(folder, name) == 1
        other = model_folder(tmp_path / "other", C=0.1)
        assert registry.register(other, name) == registry.register(other, name) == 2
    newer, older = registry.list_versions(name)
    assert older.source.endswith("/model") and newer.source.endswith(f"/model-{newer.digest[:12]}")
    for version, sent in ((newer, other), (older, folder)):
        assert saving.verify(registry.fetch(name, version.version,
                                            tmp_path / f"f{version.version}")) == seal.digest(sent)


def three_versions(tmp_path: Path, monkeypatch) -> str:
    "A model with three versions"
    for number in (1, 2, 3):
        job(monkeypatch, mlflow_store.tracking_uri(tmp_path))
        with tracking.run():
            assert registry.register(model_folder(tmp_path / f"m{number}", C=number), "flights") == number
    return "flights"


def test_promotion_retires_the_others_and_can_go_back(tmp_path, monkeypatch):
    name = three_versions(tmp_path, monkeypatch)
    for number in (1, 3, 2):
        registry.promote(name, number)
        assert registry.find_champion(name).version == number
        assert [v.version for v in registry.list_versions(name) if v.tags.get("status") == "champion"] == [number]
    with pytest.raises(UserError, match=r"(?s)no version 9.*accepted: 3, 2, 1"):
        registry.promote(name, 9)


@pytest.mark.parametrize("old, new", [(1, 2), (3, 1)])
def test_there_is_one_champion_wherever_a_promotion_dies(tmp_path, monkeypatch, old, new):
    name = three_versions(tmp_path, monkeypatch)
    registry.promote(name, old)
    real, calls = registry.tag_version, []

    def watched(*args):
        real(*args)
        calls.append(args)
        assert registry.find_champion(name).version in (old, new)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(registry, "tag_version", watched)
        registry.promote(name, new)
    assert calls
    registry.promote(name, new)
    assert registry.find_champion(name).version == new


RACE = """import sys, time
from pathlib import Path
from mlops_nb.models import registry, tracking
name, version, against, ready, go = sys.argv[1:]
registry.list_versions(name)
Path(ready).touch()
while not Path(go).exists(): time.sleep(0.001)
try: registry.promote(name, version, instead_of=int(against) or None)
except registry.ChampionChanged: print('refused')
else: print('promoted')"""


def race(name: str, numbers, against: int, folder: Path) -> dict:
    "Processes that promote versions at the same moment, each judged against the same champion; what became of each"
    folder.mkdir()
    ready = {n: folder / f"ready{n}" for n in numbers}
    workers = {n: python(RACE, name, n, against, ready[n], folder / "go") for n in numbers}
    while not all(path.exists() for path in ready.values()):
        assert all(worker.poll() is None for worker in workers.values())
        time.sleep(0.02)
    (folder / "go").touch()
    return {n: finish(worker).strip() for n, worker in workers.items()}


def in_charge(name: str) -> list:
    "All versions tagged champion"
    return [v.version for v in registry.list_versions(name) if v.tags.get("status") == "champion"]


@pytest.mark.parametrize("against", [0, 1])
def test_of_two_that_were_judged_against_the_same_champion_one_wins(tmp_path, monkeypatch, against):
    name = three_versions(tmp_path, monkeypatch)
    if against:
        registry.promote(name, against)
    ends = race(name, (2, 3), against, tmp_path / "race")
    assert sorted(ends.values()) == ["promoted", "refused"]
    winner, loser = sorted(ends, key=ends.get)
    assert in_charge(name) == [winner]
    registry.promote(name, loser, instead_of=winner)
    assert in_charge(name) == [loser]


@pytest.mark.long
def test_in_azure_at_most_one_wins_and_there_is_always_a_champion(azure, tmp_path, monkeypatch):
    for number in (1, 2, 3):
        job(monkeypatch, azure.url)
        with tracking.run():
            registry.register(model_folder(tmp_path / f"m{number}", C=number), "raced")
    for turn in range(3):
        registry.promote("raced", 1)
        ends = race("raced", (2, 3), 1, tmp_path / f"race{turn}")
        winners = [n for n, end in ends.items() if end == "promoted"]
        assert len(winners) <= 1 and in_charge("raced") == (winners or [1])


@pytest.mark.parametrize("mine, theirs", [(2, 3), (3, 2)])
def test_who_sees_another_flag_withdraws(tmp_path, monkeypatch, mine, theirs):
    "Without a lock, as in Azure ML: another challenger is tagged between the first look and the second"
    name = three_versions(tmp_path, monkeypatch)
    registry.promote(name, 1)
    real = registry.tag_version

    def overtaken(model, version, tags):
        real(model, version, tags)
        if tags == {"status": "champion"}:
            real(model, theirs, tags)

    with monkeypatch.context() as patch, pytest.raises(registry.ChampionChanged, match=f"version {theirs} in charge"):
        patch.setattr(registry, "tag_version", overtaken)
        registry.promote(name, mine, instead_of=1)
    assert in_charge(name) == [theirs, 1]


def test_a_version_whose_opponent_is_gone_is_not_registered(step, tmp_path, request, monkeypatch):
    name = f"gone-{request.node.callspec.params['step']}"
    address = os.environ["MLFLOW_TRACKING_URI"]
    with tracking.run():
        assert registry.register_champion(model_folder(tmp_path / "m1"), name, None) == 1
    job(monkeypatch, address)
    with (
        tracking.run(),
        pytest.raises(
            registry.ChampionChanged, match=r"(?s)has version 1 in charge.*accepted: no champion.*fix: judge it again"
        ),
    ):
        registry.register_champion(model_folder(tmp_path / "m2", C=2), name, None)
    assert [v.version for v in registry.list_versions(name)] == [1]
    with tracking.run():
        assert registry.register_champion(tmp_path / "m2", name, 1) == 2
    assert in_charge(name) == [2]


def test_a_champion_that_is_gone_is_a_changed_one(tmp_path, monkeypatch):
    name = three_versions(tmp_path, monkeypatch)
    with pytest.raises(registry.ChampionChanged, match=r"has no champion in charge"):
        registry.promote(name, 2, instead_of=1)
    assert in_charge(name) == []


def test_a_promotion_that_died_is_completed_and_does_not_block_the_next(tmp_path, monkeypatch):
    name = three_versions(tmp_path, monkeypatch)
    for number in (1, 2):
        registry.tag_version(name, number, {"status": "champion"})
    registry.promote(name, 2, instead_of=1)
    assert in_charge(name) == [2]
    registry.tag_version(name, 1, {"status": "champion"})
    registry.promote(name, 3, instead_of=2)
    assert in_charge(name) == [3]


def test_fetch_refuses_what_was_altered_in_the_store(local, tmp_path):
    with tracking.run():
        registry.register(model_folder(tmp_path / "model"), "flights")
    stored = next((local / "my project" / ".mlops" / "mlartifacts").rglob("model.skops"))
    content = bytearray(stored.read_bytes())
    content[10] ^= 1
    stored.write_bytes(content)
    with pytest.raises(UserError, match="model.skops was changed"):
        registry.fetch("flights", 1, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    seal.seal(stored.parent)
    with pytest.raises(UserError, match="has the digest"):
        registry.fetch("flights", 1, tmp_path / "fetched")


def test_fetch_refuses_a_folder_with_files_in_it(local, tmp_path):
    with tracking.run():
        registry.register(model_folder(tmp_path / "model"), "flights")
    with pytest.raises(UserError, match="not empty"):
        registry.fetch("flights", 1, tmp_path / "model")
    (tmp_path / "empty").mkdir()
    assert registry.fetch("flights", "1", tmp_path / "empty") == tmp_path / "empty"


@pytest.mark.parametrize("name", ["", "a/b", "it's", "ä", "a" * 256])
def test_a_name_that_azure_refuses_is_refused_here(local, name):
    with pytest.raises(UserError, match="cannot name a model"):
        registry.list_versions(name)


def test_an_unsealed_folder_is_not_registered(local, tmp_path):
    (tmp_path / "model").mkdir()
    with tracking.run(), pytest.raises(UserError, match="has no SHA256SUMS"):
        registry.register(tmp_path / "model", "flights")


# The stand-in has teeth


def test_what_azure_lacks_fails_against_the_stand_in(azure, monkeypatch):
    import mlflow
    from mlflow.exceptions import MlflowException
    job(monkeypatch, azure.url)
    model = LogisticRegression().fit(X, [0, 0, 1, 1])
    with tracking.run():
        with pytest.raises(MlflowException, match="no such route|404"):
            mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"], skops_trusted_types=[])
    client = mlflow_store.make_client(azure.url)
    client.create_registered_model("teeth")
    with pytest.raises(MlflowException, match="no such route|404"):
        client.set_registered_model_alias("teeth", "champion", "1")
    with pytest.raises(MlflowException, match="no such route|404"):
        client.transition_model_version_stage("teeth", "1", "Production")


def test_the_same_log_model_works_on_a_whole_server(azure, monkeypatch):
    "So it is the missing routes that fail it, and not the stand-in"
    import mlflow
    job(monkeypatch, f"http://127.0.0.1:{azure.upstream}")
    with tracking.run():
        mlflow.sklearn.log_model(LogisticRegression().fit(X, [0, 0, 1, 1]), name="model",
                                 pip_requirements=["scikit-learn"])


@pytest.mark.long
def test_our_modules_ask_azure_for_nothing_it_lacks(azure, tmp_path, monkeypatch):
    from tests.support.mlflow_azure import MISSING
    start = len(azure.seen)
    job(monkeypatch, azure.url)
    with tracking.run():
        tracking.log_metrics({"a": 1})
        tracking.log_figure(Figure(), "plots/a.png")
        number = registry.register(model_folder(tmp_path / "model"), "quiet")
    registry.promote("quiet", number)
    registry.fetch("quiet", number, tmp_path / "to")
    asked = azure.seen[start:]
    refused = {path for _, path in asked if any(part in path for part in MISSING)}
    # MLflow's client itself asks, and bears the 404
    assert len(asked) > 20 and refused <= {"/api/3.0/mlflow/server-info"}


def test_after_another_address_mlflow_uses_what_the_environment_names(tmp_path, monkeypatch):
    import mlflow
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(None)
    with mlflow_store.speak_to(mlflow_store.tracking_uri(tmp_path / "elsewhere")): pass
    assert not mlflow.is_tracking_uri_set()
    job(monkeypatch, first := mlflow_store.tracking_uri(tmp_path / "first"))
    with mlflow_store.speak_to(mlflow_store.tracking_uri(tmp_path / "elsewhere")):
        assert mlflow.get_tracking_uri() != first
    assert mlflow.get_tracking_uri() == first
    job(monkeypatch, second := mlflow_store.tracking_uri(tmp_path / "second"))
    with tracking.run(): assert mlflow.get_tracking_uri() == second
    assert mlflow.get_registry_uri() == second and "MLFLOW_REGISTRY_URI" not in os.environ
