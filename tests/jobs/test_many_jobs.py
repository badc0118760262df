"What a list of jobs costs is the list: one query for what their steps say, whatever has ever run"
from mlops_nb.jobs.report import describe_job, describe_jobs
from mlops_nb.workspace import mlflow_store
from mlops_nb.workspace.runs import Tracker
from mlops_nb.workspace.workspace import Workspace, add_job


def test_the_summaries_of_all_listed_jobs_come_at_once(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path)
    tracker = Tracker(workspace, "many")
    for number in range(6):
        job = dict(name=f"job {number}", file="job.yml", kind="pipeline", signature="s", experiment="many")
        id = add_job(workspace, job, ["one", "two"])
        for step in ("one", "two")[: 1 + number % 2]:
            run = tracker.open(step, tags={"mlops_nb.summary": f"{step} of {number}"})
            workspace.update("steps", {"job": id, "name": step}, run_id=run)
    rows = workspace.rows("SELECT * FROM jobs ORDER BY rowid DESC LIMIT 4")
    single = [describe_job(workspace, row) for row in rows]
    asked, real = [], mlflow_store._query
    monkeypatch.setattr(mlflow_store, "_query", lambda uri, *queries: asked.append(queries) or real(uri, *queries))
    many = describe_jobs(workspace, rows)
    def said(jobs): return [[step["summary"] for step in job["steps"]] for job in jobs]
    assert said(many) == said(single) == [["one of 5", "two of 5"], ["one of 4", None], ["one of 3", "two of 3"],
                                          ["one of 2", None]]
    assert len(asked) == 1
    tracker.connection.close()


def test_a_tag_is_read_of_the_runs_that_are_asked_about(tmp_path):
    workspace = Workspace(tmp_path)
    tracker = Tracker(workspace, "tags")
    runs = [tracker.open(f"run {number}", tags={"mark": str(number)}) for number in range(5)]
    many = [runs[1], runs[3], "absent", *(f"absent-{number}" for number in range(40_000))]
    assert mlflow_store.tag_by_run(tracker.uri, "mark", many) == {runs[1]: "1", runs[3]: "3"}
    assert mlflow_store.tag_by_run(tracker.uri, "mark", []) == {}
    tracker.connection.close()
