"A release report whose every text is a script of a stranger: nothing of it runs, and it can be read"
from dataclasses import asdict, fields

import pytest

from mlops_nb.releases.record import Release, new_stage
from mlops_nb.releases.report import write_report
from mlops_nb.releases.rollout import Phase, load_rollout

from tests.support import ROOT
from tests.support.browser import look_at

SCRIPT = "</title><script>window.planted = 1</script><img src=x onerror='window.planted = 2'>\" onload='planted=3' {}"
NOW = "2026-01-01T00:00:00+00:00"


def plant(name: str) -> str: return SCRIPT.format(name)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    "The page of a release in each of whose texts a script stands, except where its folder is named"
    rollout = asdict(load_rollout(ROOT / "pipelines/deployment/rollout.yml"))
    texts = {field.name: plant(field.name) for field in fields(Release) if field.type in (str, str | None)}
    texts |= {"id": "echo-v2-1", "status": "Promoted", "started": NOW, "ended": NOW}    # what cannot be any text
    stage = new_stage(Phase(name=plant("stage"), traffic=50))
    stage |= {"started": NOW, "ended": NOW, "decision": plant("decision")}
    check = {"name": plant("check"), "passed": False, "detail": plant("detail")}
    planted = Release(**texts, rollout=rollout, files={}, stages=[stage], checks=[check])
    served = {"time": NOW, "served": NOW, "request_id": plant("request"), "deployment": planted.deployment,
              "mirror": False, "status": 200, "milliseconds": 3.0, "valid": True, "version": plant("version")}
    return write_report(tmp_path_factory.mktemp("report"), planted, [served])


def test_no_script_of_a_stranger_runs_in_the_report_of_a_release(browser, report):
    tab, asked = browser.new_page(), list[str]()
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(report.as_uri())
    assert tab.evaluate("window.planted") is None
    assert tab.evaluate("document.querySelectorAll('script, [onerror], [onload]').length") == 0
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    text = tab.evaluate("document.body.innerText")
    for name in ("reason", "advice", "approved_by", "stage", "decision", "check", "detail"):
        assert plant(name) in text, f"{name} can be read as it was written"


@pytest.mark.parametrize("scheme, ground", [("light", "rgb(255, 255, 255)"), ("dark", "rgb(17, 21, 26)")])
def test_the_report_can_be_read_in_light_and_in_dark_and_its_plots_stay_white(browser, report, scheme, ground):
    problems, colours = look_at(browser, report, scheme, "body", "img")
    assert problems == [] and colours == [ground, "rgb(255, 255, 255)"]
