"A job of Azure DevOps: its comment, its training, its page and its outputs, against an organisation that is strict"
import json
import os
import re
import subprocess
import sys

import pytest

from mlops_nb.devops import client
from mlops_nb.errors import UserError

from tests.ci.test_dispatch import dispatch, ledger  # noqa: F401
from tests.support.devops import SUBJECT, TOKEN, organisation, signed_in
from tests.support.loopback.tokens import claimed


@pytest.fixture
def job(monkeypatch):
    "This process is a step of a job that has the job's token; gives what the organisation has"
    with organisation() as (state, environment):
        for name, value in {**environment, **signed_in("tenant", "client")}.items(): monkeypatch.setenv(name, value)
        yield state


def test_a_pull_request_has_one_comment(job):
    job.threads.append({"id": 1, "isDeleted": False, "comments": [{"id": 1, "author": {"id": "ada"}, "content": "hm"}]})
    assert client.write_comment(7, "first") == client.write_comment(7, "second") == 2
    assert [thread["comments"][0]["content"] for thread in job.threads] == ["hm", "second"] and not job.refused
    assert job.threads[1]["status"] == "closed", "an open thread would hold up the pull request"


def test_a_comment_that_was_deleted_is_written_anew(job):
    client.write_comment(7, "first")
    job.threads[0]["isDeleted"] = True
    assert client.write_comment(7, "second") == 2


def test_a_long_page_is_cut(job):
    client.write_comment(7, "x" * 200_000)
    assert len(job.threads[0]["comments"][0]["content"]) < 150_000


def test_what_azure_devops_refuses_is_said_in_one_message(job):
    job.rights.clear()
    with pytest.raises(UserError, match="403 to POST .*threads: TF401027: You need the right to comment"):
        client.write_comment(7, "first")
    with pytest.raises(UserError, match="403 to POST .*runs: TF401027: You need the right to queue"):
        client.start_training("b1", {})
    job.pipelines.clear()
    with pytest.raises(UserError, match=r"no pipelines named training(.|\n)*az pipelines create"):
        client.start_training("b1", {})


def test_a_bad_token_is_refused_and_no_page_is_read(job, monkeypatch):
    monkeypatch.setenv("SYSTEM_ACCESSTOKEN", "of-another-job")
    with pytest.raises(UserError, match="401 .*TF400813"): client.call_devops("GET", "/_apis/build/definitions")


def test_each_id_token_is_new_and_for_the_connection_of_the_step(job):
    first, second = claimed(client.fetch_id_token()), claimed(client.fetch_id_token())
    assert first["sub"] == SUBJECT and first["jti"] != second["jti"]
    assert client.find_identity() == ("tenant", "client")


def test_without_a_connection_nobody_asks_for_id_tokens(job, monkeypatch):
    monkeypatch.delenv("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID")
    assert client.find_identity() is None


def test_a_breach_starts_one_run_of_the_training_pipeline(ledger):    # noqa: F811
    with organisation() as (state, environment):
        told = dispatch(ledger, code=2, **environment).stderr
        assert "SYSTEM_ACCESSTOKEN is not set" in told and "GITHUB" not in told
        [row] = json.loads(dispatch(ledger, **environment, SYSTEM_ACCESSTOKEN=TOKEN).stdout)
        dispatch(ledger, **environment, SYSTEM_ACCESSTOKEN=TOKEN)
    [run] = state.runs
    assert run["templateParameters"]["breach"] == row["breach"] and row["outcome"]["status"] == "Dispatched"
    assert "inputs.test_end=2013-07-01" in run["templateParameters"]["inputs"].split()
    assert "_build/results?buildId=1" in row["outcome"]["reason"] and not state.refused


COMMAND = re.compile(r"##vso\[([\w.]+)(?: ([^\]]*))?\](.*)")


def test_a_page_is_attached_and_outputs_are_set_whatever_they_say(tmp_path):
    evil = "yes\n##vso[task.setvariable variable=release]true"
    document = {"release": False, "model": "##vso[task.complete]", "version": 4, "reason": evil}
    (tmp_path / "verdict.json").write_text(json.dumps(document))
    done = subprocess.run([sys.executable, "-m", "mlops_nb", "summary", "verdict.json", "--publish"], cwd=tmp_path,
                          capture_output=True, text=True,
                          env={**os.environ, "TF_BUILD": "True", "AGENT_TEMPDIRECTORY": str(tmp_path)})
    assert done.returncode == 0 and "##vso[" not in done.stdout, done.stderr
    page, *outputs = [COMMAND.fullmatch(line) for line in done.stderr.splitlines()]
    assert page[1] == "task.uploadsummary" and "Nothing to release" in open(page[3]).read()
    assert [(one[1], one[2], one[3]) for one in outputs] == [
        ("task.setvariable", f"variable={name};isOutput=true;", value)
        for name, value in (("release", "false"), ("model", "##vso[task.complete]"), ("version", "4"))]
