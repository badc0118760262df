"The example of the gallery: whole, light, and the same from two runs that do the same"
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mlops_nb.contract import CARD_FILE, VERDICT_FILE
from mlops_nb.project import Project
from mlops_nb.site.gallery import show_gallery
from mlops_nb.site.keep import example_folder, keep_example, make_steady, read_example
from mlops_nb.workspace.workspace import Workspace, add_job

from tests.support import ROOT

LIMIT = 1_500_000       # Bytes in git
TOP = "|".join(re.escape(path.name) for path in Path(ROOT.anchor).iterdir() if path.is_dir())
VOLATILE = re.compile(rf"\d{{8}}-\d{{6}}-[0-9a-f]{{4}}|/(?:{TOP})/")    # Ids of a run, and paths of this machine
PICTURE = re.compile(r"data:[^\"')]+")


class Links(HTMLParser):
    "The links and sources of a page"
    def __init__(self, text: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


def test_the_example_of_this_repository_is_whole_and_light():
    folder, chapters = example_folder(Project(ROOT)), read_example(Project(ROOT))
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    named = {file for chapter in chapters for _, file in chapter["pages"]}
    assert named == {*files} - {"example.json"}
    assert [chapter["title"] for chapter in chapters][:3] == ["The first model", "The release", "In production"]
    assert {"model card", "release report", "control tower", "train"} <= {t for c in chapters for t, _ in c["pages"]}
    assert sum(path.stat().st_size for path in files.values()) < LIMIT
    assert VOLATILE.search(f"made in {ROOT}/nbs") and VOLATILE.search("training-20261129-202543-97c8")
    for name, path in files.items():
        text = PICTURE.sub("", path.read_text(encoding="utf-8"))
        assert not VOLATILE.search(text), f"{name}: {VOLATILE.search(text)}"
        if name.endswith(".json"): continue
        inside = [link for link in Links(text).found if not re.match(r"[a-z]+:|#", link)]
        assert [link for link in inside if not (path.parent / link).is_file()] == [], name


def test_the_gallery_shows_the_example_with_pictures_that_lead_to_notebooks():
    shown = show_gallery(ROOT).data
    assert '<a class="completed" href="gallery/example/retraining-1/train.html">' in shown
    assert "## In production" in shown and "control tower</a>" in shown


def make_run(root: Path) -> Project:
    "A project that has trained, released and monitored"
    (root / "nbs/docs").mkdir(parents=True)
    (root / "settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n")
    workspace = Workspace(root)
    row = {"name": "training", "file": "job.yml", "kind": "pipeline", "signature": "s", "experiment": "e"}
    id = add_job(workspace, row, ["train", "register"], {"register": ["train"]})
    made = workspace.step_folder(id, "register") / "outputs"
    (made / "decision").mkdir(parents=True)
    (made / "decision" / VERDICT_FILE).write_text(json.dumps({"accepted": True, "reason": f"Accepted in {root}."}))
    (made / "decision" / CARD_FILE).write_text(f"# Card\n\nMade by {id}.")
    page = workspace.step_folder(id, "train") / "code/outputs/04_train.html"
    page.parent.mkdir(parents=True)
    page.write_text(f"<p>{id} in {root}</p>")
    outputs = json.dumps({"decision": {"path": str(made / "decision")}})
    workspace.update("steps", {"job": id, "name": "train"}, status="Completed", started=1.0, ended=3.04)
    workspace.update("steps", {"job": id, "name": "register"}, status="Completed", outputs=outputs)
    workspace.update("jobs", {"id": id}, status="Completed")
    project = Project(root)
    release = project.releases / f"m-v1-{id[-20:]}"
    release.mkdir(parents=True)
    notebook = f"../../jobs/{id}/train/code/outputs/04_train.html"
    (release / "report.html").write_text(f'<a href="{notebook}">{release.name}</a>')
    stage = {"name": "100 %", "requests": 60, "bad": 0, "decision": "promoted"}
    (release / "release.json").write_text(json.dumps({
        "version": "1", "model": "m", "status": "Promoted", "approved_by": "loop", "checks": [], "stages": [stage]}))
    window = {"breach": False, "performance": None, "window": ["a", "b"], "signals": {"data_drift": "ok"}}
    project.replay.parent.mkdir(parents=True)
    project.replay.write_text(json.dumps({"done": {"2013-04 monitored": window, "2013-04 answered": []}}))
    project.tower.parent.mkdir(parents=True)
    project.tower.write_text(f'<a href="../releases/{release.name}/report.html">{release.name}</a>')
    return project


def test_two_runs_that_do_the_same_leave_the_same(tmp_path):
    kept = []
    for name in ("one", "another"):
        folder = keep_example(make_run(tmp_path / name))
        kept.append({path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*")
                     if path.is_file()})
    assert kept[0] == kept[1] and {*kept[0]} == {"example.json", "tower.html", "m-v1-1/report.html",
                                                 "training-1/train.html", "training-1/model_card.html"}
    assert kept[0]["tower.html"] == '<a href="m-v1-1/report.html">m-v1-1</a>\n'
    assert kept[0]["m-v1-1/report.html"] == '<a href="../training-1/train.html">m-v1-1</a>\n'
    steps = json.loads(kept[0]["example.json"])[0]["steps"]
    assert [(step["name"], step["seconds"], step["needs"]) for step in steps] == [
        ("train", 2.0, []), ("register", None, ["train"])]


def test_of_a_year_the_first_model_the_last_challenger_and_the_last_release_are_kept(tmp_path):
    project = make_run(tmp_path)
    workspace = Workspace(tmp_path)
    first = workspace.rows("SELECT id FROM jobs")[0]["id"]
    for number in (2, 3):
        row = {"name": "retraining", "file": "job.yml", "kind": "pipeline", "signature": str(number),
               "experiment": "e"}
        id = add_job(workspace, row, ["register"], {})
        made = workspace.step_folder(id, "register") / "outputs" / "decision"
        made.mkdir(parents=True)
        (made / VERDICT_FILE).write_text(json.dumps({"accepted": True, "reason": f"Challenger {number}."}))
        outputs = json.dumps({"decision": {"path": str(made)}})
        workspace.update("steps", {"job": id, "name": "register"}, status="Completed", outputs=outputs)
        workspace.update("jobs", {"id": id}, status="Completed")
    for version, time in ((9, "20270101-000000-0000"), (10, "20270201-000000-0000")):
        shutil.copytree(project.releases / f"m-v1-{first[-20:]}", project.releases / f"m-v{version}-{time}")
        record = project.releases / f"m-v{version}-{time}" / "release.json"
        record.write_text(record.read_text().replace('"version": "1"', f'"version": "{version}"'))
    keep_example(project)
    texts = [chapter["text"] for chapter in read_example(project)]
    assert texts[0] == "Accepted in .." and texts[1].startswith("Version 10 of m is promoted")
    assert texts[3:] == ["Challenger 3."]


@pytest.mark.parametrize("text", ["4e6d9e21a5f44d1c8b8ad22fbd3a0c1e", "20261129T202543595047-161f"])
def test_names_that_differ_in_each_run_are_replaced(text):
    steady = make_steady(f"run {text} ended", Path("/p"), {})
    assert text not in steady and steady.startswith("run ") and steady.endswith(" ended")
