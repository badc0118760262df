"""Workflows as GitHub would run them: nektos/act on this machine, a folder for GitHub's storage, a loopback Azure for the cloud

What act cannot show: approvals of GitHub environments, concurrency, and other systems than this one.
"""
import json
import re

import pytest
from acting import Act, copy_of, git

pytest.importorskip("fcntl", reason="the workflows that run here are those of a POSIX system")


def small(root):
    "The training pipeline on a fortieth of the flights"
    file = root / "pipelines/training/pipeline.yml"
    text = file.read_text()
    assert "  every: 1\n" in text and "  bootstrap: 2000\n" in text
    file.write_text(text.replace("  every: 1\n", "  every: 40\n"))
    git(root, "commit", "-qam", "A small training")
    return root


def pull_request(root, base: str) -> dict:
    "What GitHub says of a pull request from a branch of the repository"
    return {"action": "synchronize", "number": 7, "repository": {"full_name": "team/flights"},
            "pull_request": {"number": 7, "user": {"login": "ada"}, "base": {"ref": "main", "sha": base}, "head": {"ref": "change", "sha": git(root, "rev-parse", "HEAD").strip(), "repo": {"full_name": "team/flights"}}}}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    "main trained a champion; then a branch changed a stage, and opened a pull request"
    folder = tmp_path_factory.mktemp("ci")
    root = small(copy_of(folder / "project"))
    act, base = Act(root, folder / "github"), git(root, "rev-parse", "HEAD").strip()
    act("push", "ci", {"ref": "refs/heads/main", "after": base}, "--job", "model")
    git(root, "checkout", "-qb", "change")
    notebook = root / "nbs/training/04_train.ipynb"
    notebook.write_text(notebook.read_text().replace("# boosting: most steps", "# boosting: steps at most"))
    git(root, "commit", "-qam", "Say it better")
    log = act("pull_request", "ci", pull_request(root, base), "--job", "comment")
    return act, root, base, log


def test_a_pull_request_is_compared_with_the_champion_of_main(compared):
    act, *_ = compared
    [comment] = [one["body"] for one in act.api.comments]
    assert "Judged against flight-delay version 1" in comment
    ours, champion = re.search(r"\| log_loss \| ([\d.]+) \|.*\| ([\d.]+) \|", comment).groups()
    assert ours == champion, "a change of a comment changes no model"


def test_a_pull_request_shows_what_changed_in_notebooks(compared):
    act, *_ = compared
    comment = act.api.comments[0]["body"]
    assert "+max_iter: Annotated[int, Range(1, 5000)] = 500                          # boosting: steps at most" in comment
    assert "nbs/training/04_train.ipynb: 11 lines" in comment and "ingest | Completed |  | yes" in comment


def test_executed_notebooks_are_kept(compared):
    act, *_ = compared
    names = {path.name for path in (act.github / "artifacts/notebooks").rglob("*.html")}
    assert {"04_train.html", "06_register.html"} <= names


def test_a_fork_gets_no_comment_and_no_rights(compared):
    act, root, base, _ = compared
    event = pull_request(root, base)
    event["pull_request"]["head"]["repo"]["full_name"] = "mallory/flights"
    log = act("pull_request", "environment", event)
    assert "mlops-nb" not in log
    assert len(act.api.comments) == 1


@pytest.fixture(scope="module")
def cloud(azure_server, tmp_path_factory):
    "A project with workspaces for dev, staging and production, and a registry between them"
    from clients import sdk
    from loopback import workspaces
    from loopback.bench import GROUP

    from mlops_nb.environment.bootstrap import set_setting
    azure_server.reset()
    workspaces.make_workspace(azure_server, GROUP, "staging")
    folder = tmp_path_factory.mktemp("cloud")
    root = copy_of(folder / "project")
    for on in ("dev", "staging", "production"):
        for key, value in (azure_server.workspace(on) | {"registry": "flights"}).items(): set_setting(root / "settings.ini", on, key, value)
    small(root)
    (folder / "registry.yml").write_text("name: flights\nlocation: westeurope\nreplication_locations: [{location: westeurope}]\n")
    sdk(azure_server, "from azure.ai.ml import load_registry\nclient.registries.begin_create(load_registry('registry.yml')).result()", folder)
    act = Act(root, folder / "github")
    act.sees(azure_server)
    yield act, azure_server
    azure_server.end_executions()


def test_a_merge_ends_with_a_promoted_model(cloud):
    act, azure = cloud
    log = act("push", "training", {"ref": "refs/heads/main"})
    assert "AZURE_CLIENT_SECRET" not in log
    released = json.loads((act.github / "artifacts/release/release.json").read_text())
    assert (released["status"], released["version"]) == ("Promoted", "1")


def test_a_drift_event_ends_with_a_retrained_model(cloud):
    act, azure = cloud
    window = "inputs.train_start=2013-03-01 inputs.train_end=2013-09-01 inputs.test_end=2013-12-01"
    act("repository_dispatch", "training", {"action": "drift", "client_payload": {"breach": "b1", "inputs": window}}, "--job", "train")
    job = json.loads((act.github / "artifacts/notebooks/training.json").read_text())
    assert job["status"] == "Completed"
