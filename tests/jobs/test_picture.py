"The picture of a job that was run: what each step waited for, how it went, how long it took, whether it was reused"
import json
import re
import xml.etree.ElementTree as xml
from pathlib import Path

from mlops_nb.ci.summaries import format_page
from mlops_nb.jobs.report import keep_graph

STEP = """
  {name}:
    command: {command} > ${{{{outputs.out}}}}
    inputs: {{{inputs}}}
    outputs: {{out: {{type: uri_file}}}}
    environment: {{image: python}}
"""


def pipeline(middle: str) -> str:
    "Three steps in a row; the second runs this command"
    return "type: pipeline\ndisplay_name: row\njobs:" + "".join([
        STEP.format(name="first", command="echo a", inputs=""),
        STEP.format(name="second", command=middle, inputs='given: "${{parent.jobs.first.outputs.out}}"'),
        STEP.format(name="third", command="echo c", inputs='given: "${{parent.jobs.second.outputs.out}}"')])


def draw(project, *words: str) -> str:
    "What `show --graph` prints"
    done = project.call("show", "last", "--graph", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_job_is_drawn_as_it_ran(project):
    (project.root / "job.yml").write_text(pipeline("cat missing"))
    failed = project.run("job.yml", code=1)
    lines = draw(project).splitlines()
    assert failed["id"] in lines[0] and "Failed" in lines[0]
    assert [re.sub(r"[\d.]+ s", "N s", " ".join(line.split())) for line in lines[1:]] == [
        "first ✓ N s", "second ✗ Failed after N s <- first", "third · NotStarted <- second"]
    (project.root / "job.yml").write_text(pipeline("echo b").replace("third:", "last:"))
    draw(project, "--svg", "job.svg")
    picture = xml.parse(project.root / "job.svg").getroot()
    classes = [group.get("class") for group in picture if group.tag.endswith("}g")]
    assert classes == ["completed", "failed", "notstarted"]      # as it ran, whatever the file says now
    assert len([path for path in picture if path.tag.endswith("}path")]) == 2
    assert (project.root / "job.svg").read_text() == (Path(failed["folder"]) / "graph.svg").read_text()
    assert f"graph: .mlops/jobs/{failed['id']}/graph.svg" in project.call("show", "last").stdout


def test_a_reused_step_says_so_and_the_page_of_the_run_has_the_picture(project):
    (project.root / "job.yml").write_text(pipeline("echo b"))
    project.run("job.yml")
    (project.root / "job.yml").write_text(pipeline("echo changed"))
    job = project.run("job.yml")
    assert [step["needs"] for step in job["steps"]] == [[], ["first"], ["second"]]
    assert "✓ reused" in draw(project).splitlines()[1]
    page = format_page(job)
    assert '["first<br>Completed reused"]' in page and "s0_first --> s1_second" in page and "```mermaid" in page
    assert json.loads(draw(project, "--json"))["id"] == job["id"]
    kept = (Path(job["folder"]) / "graph.svg").read_text()
    assert 'class="reused"' in kept and "✓ reused" in kept


def test_a_click_on_a_step_of_the_picture_opens_its_notebook_and_a_single_step_has_no_picture(tmp_path):
    step = {"name": "b", "status": "Completed", "seconds": 2.0, "reused_from": None, "needs": ["a"],
            "notebook": str(tmp_path / "b/code/outputs/b.html")}
    job = {"folder": str(tmp_path), "steps": [step]}
    keep_graph(job)
    assert not [*tmp_path.iterdir()]
    job["steps"] = [step | {"name": "a", "needs": [], "notebook": None}, step]
    keep_graph(job)
    assert '<a class="completed" href="b/code/outputs/b.html">' in (tmp_path / "graph.svg").read_text()


def test_a_file_that_is_not_there_is_no_job(project):
    done = project.call("show", "absent.yml", "--graph")
    assert done.returncode == 2 and "there is no file absent.yml" in done.stderr
