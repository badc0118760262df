"The control tower: what it says, and how it looks in a real browser"
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_nb.monitors.silences import Silence
from mlops_nb.retraining.events import breach_event, handle
from mlops_nb.retraining.notes import Acknowledgement
from mlops_nb.retraining.policy import CAUSES, Policy
from mlops_nb.serving.endpoints import Deployment, Endpoint
from mlops_nb.tower.facts import DiskUse, Facts, collect_facts
from mlops_nb.tower.page import build_page
from mlops_nb.tower.parts import LEADS, drift_part, drift_rows, excess, headline
from mlops_nb.tower.service import Service

from tests.support import ROOT
from tests.support.retraining import StandIn

FEATURES = [
    "temp",
    "dewp",
    "humid",
    "wind_speed",
    "pressure",
    "visib",
    "carrier",
    "origin",
    "dest",
    "departure_minute",
    "late_by_carrier_over_the_last_weeks",
]


def moment(month: int) -> str: return f"2013-{month:02d}-01T00:00:00Z"


def signal_row(feature: str, month: int, metric: str = "jensen_shannon_distance") -> dict:
    value = abs(math.sin(month * 0.7 + len(feature))) * (0.4 if feature in ("temp", "dewp") else 0.12)
    return dict(
        feature=feature,
        metric=metric,
        value=value,
        azure_threshold=0.1,
        azure_breach=value > 0.1,
        null_threshold=0.03,
        breach=value > 0.1,
        n_ref=20_000,
        n_cur=9_000,
    )


def result(month: int) -> dict:
    loss = 0.48 + 0.08 * math.sin(month)
    worse = loss - 0.015 > 0.47
    performance = dict(
        type="model_performance",
        verdict="breach" if worse else "ok",
        rows=[
            dict(
                feature="",
                metric="log_loss",
                value=loss,
                azure_threshold=None,
                azure_breach=False,
                null_threshold=None,
                breach=worse,
            )
        ],
    )
    drift = [signal_row(feature, month) for feature in FEATURES]
    return dict(
        monitor="flight-delay",
        endpoint="flight-delay",
        window=[moment(month), moment(month + 1)],
        rows=9000,
        counts=dict(late=12, missing=3),
        breach=True,
        signals=dict(
            inputs=dict(type="data_drift", verdict="breach", rows=drift),
            quality=dict(type="data_quality", verdict="not enough data: 37 rows, 200 needed", rows=[]),
            performance=performance,
        ),
        performance=dict(
            metric="log_loss",
            value=loss,
            low=loss - 0.015,
            high=loss + 0.015,
            baseline=0.47,
            worse=loss - 0.5,
            n=8900,
            days=30,
        ),
        service=dict(requests=900, error_rate=0, p50_ms=8, p99_ms=31),
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    "A project with half a year of history, in which hostile names occur"
    root = tmp_path_factory.mktemp("project")
    (root / "settings.ini").write_text("[project]\nexperiment = flights\nmodel = flight-delay\n")
    reason = "Refused or accepted: the challenger's loss is lower by 0.0051 <b>&"
    trained = dict(
        job="flights-20130701", status="Completed", seconds=22.0, reason=reason, notebook=None, accepted=True
    )
    outcomes = iter([dict(version=2, release=dict(id="r2", status="Promoted", reason="")),
                     dict(version=3, release=dict(id="r3", status="RolledBack", reason="too many bad answers"))])
    days = lambda now: dict(train_start="2013-01-01", train_end=f"{now:%Y-%m-%d}", test_end=f"{now:%Y-%m-%d}")
    retrainer = StandIn(Policy(cooldown_days=40), lambda breach, window: trained | next(outcomes), days)
    for month in range(4, 10):
        one = result(month)
        file = root / f".mlops/monitors/flight-delay/{month}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(one))
        handle(root, breach_event(one), retrainer, datetime(2013, month + 1, 1, tzinfo=UTC))
    handle(root, dict(type="<script>alert(1)</script>", id="x"), retrainer)
    stages = [
        dict(name="shadow", traffic=0, requests=300, bad=0, e_value=None, decision="go"),
        dict(name="5 %", traffic=5, requests=312, bad=1, e_value=0.72, decision="go"),
    ]
    for id, version, status in (("r1", 1, "Promoted"), ("r2", 2, "Promoted"), ("r3", 3, "RolledBack")):
        folder = root / f".mlops/releases/{id}"
        folder.mkdir(parents=True)
        (folder / "release.json").write_text(
            json.dumps(
                dict(
                    id=id,
                    endpoint="flight-delay",
                    model="flight-delay",
                    version=version,
                    champion=version - 1 or None,
                    status=status,
                    stage="100 %",
                    stages=stages,
                    approved_by="policy",
                    evidence=None,
                    report=None,
                    reason="all stages passed",
                    started=f"2026-11-0{version}T10:00:00Z",
                    ended=f"2026-11-0{version}T10:05:00Z",
                )
            )
        )
    return root


@pytest.fixture(scope="module")
def found(project) -> Facts:
    "Its facts, with an endpoint that serves"
    serving = Endpoint(
        "flight-delay",
        "http://127.0.0.1:1/score",
        {"blue": 100},
        {},
        {"blue": Deployment("blue", "flight-delay", "2", "Ready", 1, 0)},
        True,
    )
    requests = {
        (f"2013-{month:02d}-{day:02d}", "1" if month < 6 else "2"): 40 for month in range(4, 10) for day in range(1, 29)
    }
    return collect_facts(project) | dict(
        endpoints=[serving],
        traffic={"flight-delay": dict(requests=requests, errors={("2013-04-01", "1"): 2}, mirrored=600,
                                     service=Service())},
    )


@pytest.fixture(scope="module")
def file(project, found) -> Path:
    path = project / ".mlops/tower/index.html"
    path.parent.mkdir(parents=True)
    path.write_text(build_page(found, path.parent))
    return path


def test_the_page_says_what_serves_since_when_and_why(file):
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", file.read_text(), flags=re.S)
    said = " ".join(text.split())
    assert "Version 2 of flight-delay has 100 % of the traffic" in said
    assert "version 2 since 1 Aug 2013" in said
    assert "surely worse than 0.4700" in said and "cool-down until" in said
    assert "too many bad answers" in said and "RolledBack" in said and "not a breach:" in said
    assert "12 outcomes that were not known yet, 3 predictions without an outcome" in said


def test_what_comes_from_outside_is_text(file):
    assert "<script" not in file.read_text() and "0.0051 &lt;b&gt;&amp;" in file.read_text()


def test_a_feature_that_breaches_most_stands_first(found):
    rows = drift_rows(found["results"])
    assert list(rows)[0] in ("temp", "dewp") and len(rows) == len(FEATURES)
    assert excess(dict(value=None, breach=True, metric="", null_threshold=None, azure_threshold=None)) > 1


def test_what_drift_leads_to_is_said_as_the_policy_has_it(found):
    def leads(cause: str) -> str:
        facts = found.copy()
        facts["policy"] = replace(found["policy"], retrain_on=cause)
        part = drift_part(facts)
        assert part
        return part.leads
    assert {*LEADS} == {*CAUSES}
    assert {cause for cause in CAUSES if leads(cause).startswith("Drift retrains")} == {"any"}
    assert "an estimated harm" in leads("harm") and "an estimated harm" not in leads("performance")


def test_the_command_executes_the_notebook(project):
    done = subprocess.run([sys.executable, "-m", "mlops_nb", "tower"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip().splitlines()[-1])
    assert path.name == "index.html" and "</html>" in (ROOT / path).read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(browser, file, width, scheme, tmp_path):
    tab = browser.new_page(viewport=dict(width=width, height=900), color_scheme=scheme)
    errors, asked = [], []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    tab.screenshot(path=tmp_path / "page.png", full_page=True)
    assert errors == [] and [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper)[:3])) < 200) == (scheme == "dark")
    assert tab.evaluate(
        "[...document.querySelectorAll('.ticks span, .names span, td, th, dd, p')]"
        ".every(e => parseFloat(getComputedStyle(e).fontSize) >= 9)"
    )
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(browser, file, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    tab = browser.new_page(viewport=dict(width=1280, height=900), color_scheme=scheme)
    tab.goto(file.as_uri())
    found = axe.Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    tab.close()


def test_a_reader_chooses_how_much_of_the_past_is_shown(browser, found, tmp_path):
    "With the keyboard, without a script; what counts as a breach stays in sight"
    page = tmp_path / "page.html"
    page.write_text(build_page(found, tmp_path))
    tab = browser.new_page(viewport=dict(width=1280, height=900))
    tab.goto(page.as_uri())
    points = ".chart >> nth=0 >> .plot .dot"
    def in_sight() -> list[bool]:
        frame = tab.locator(".chart .plot").first.bounding_box()
        boxes = [one.bounding_box() for one in tab.locator(points).all()]
        return [box["x"] + box["width"] > frame["x"] and box["x"] < frame["x"] + frame["width"] for box in boxes]
    assert in_sight() == [True] * 6 and tab.locator(".heat tbody tr").first.locator("td:visible").count() == 6
    tab.focus("#range-all")
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#range-30d").is_checked()
    assert in_sight() == [False] * 5 + [True] and tab.locator(".heat tbody tr").first.locator("td:visible").count() == 1
    assert tab.locator(".chart .names").first.locator("span:visible").all_text_contents() == ["Sep"]
    tab.close()


def test_a_name_in_the_heat_map_opens_what_is_known_of_the_feature(browser, file):
    tab = browser.new_page(viewport=dict(width=800, height=900))
    tab.goto(file.as_uri())
    last = tab.locator(".heat tbody th a").last
    target = tab.locator(str(last.get_attribute("href")))
    assert not target.is_visible()
    last.focus()
    tab.keyboard.press("Enter")
    target.wait_for(state="visible")
    assert "jensen shannon distance" in target.inner_text()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 800
    tab.close()


def test_silences_and_acknowledgements_are_on_the_page(found, tmp_path):
    repair = Silence("5e1f", "flight-delay", "temp", "2026-12-01", "2026-12-10", "Ann <b>", "the sensor is repaired")
    events = [event | dict(acknowledged=Acknowledgement("Ben", "a storm", "2013-08-02")) if event["breach"] else event
              for event in found["events"]]
    page = build_page(found | dict(silences=[repair], events=events), tmp_path)
    assert "Silenced alarms" in page and "10 Dec 2026, 00:00 UTC" in page and "Ann &lt;b&gt;" in page
    assert "Acknowledged by Ben, 2 Aug 2013: a storm" in page and "1 silence of alarms." in page
    assert "Silenced alarms" not in build_page(found, tmp_path)


def test_a_breach_that_somebody_has_seen_is_told_as_seen(found):
    assert headline(found)[1] == "bad" and headline(found)[0].endswith("The last window breached.")
    last = found["results"][-1]
    seen = dict(result=last, acknowledged=Acknowledgement("Ben", "a storm", "2013-10-02"))
    others = [dict(result=one, acknowledged=seen["acknowledged"]) for one in found["results"][:-1]]
    words, look = headline(found | dict(events=[*others, seen]))
    assert look == "seen" and words.endswith("The last window breached; Ben has seen it: a storm.")
    assert headline(found | dict(events=others))[1] == "bad", "another window was seen, not this one"


def test_a_breach_of_another_monitor_is_in_the_headline_too(found):
    quiet = found["results"][-1] | dict(monitor="hourly", breach=False)
    words, look = headline(found | dict(results=[*found["results"], quiet]))
    assert look == "bad" and words.endswith("The last window of flight-delay breached.")


def test_the_footer_says_what_is_on_disk(file, found):
    "The parts of the local workspace, the largest first"
    said = re.search(r"On disk: [\d.]+ [kMG]?B, of which (\S+) [\d.]+ [kMG]?B", file.read_text())
    assert said and (parts := found["disk"][-1].parts) and said[1] == max(parts, key=parts.__getitem__)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_month_of_disk_use_is_drawn_with_its_unit(browser, found, tmp_path, width):
    first = datetime(2026, 11, 1, 8, tzinfo=UTC)
    days = [DiskUse((first + timedelta(days=day)).isoformat(), {"collected": 9_000_000 * (day + 1), "jobs": 20_000_000})
            for day in range(30)]
    page = tmp_path / "page.html"
    page.write_text(build_page(found | dict(disk=days), tmp_path))
    tab = browser.new_page(viewport=dict(width=width, height=900))
    tab.goto(page.as_uri())
    disk = tab.locator("section", has=tab.locator("h2", has_text="Disk"))
    assert disk.locator("figcaption").inner_text().endswith("MB") and disk.locator(".plot .dot").count() == 90
    names = [one.bounding_box() for one in disk.locator(".names span:visible").all()]
    assert len(names) > 1 and all(one["x"] + one["width"] <= two["x"] for one, two in zip(names, names[1:]))
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.close()


def test_on_paper_nothing_scrolls_and_no_title_ends_a_page(browser, file):
    tab = browser.new_page(viewport=dict(width=700, height=900))
    tab.goto(file.as_uri())
    tab.emulate_media(media="print")
    def styles(names: str, style: str) -> set[str]:
        return {*tab.eval_on_selector_all(names, f"all => all.map(one => getComputedStyle(one).{style})")}
    assert styles(".wide:not(.numbers *)", "overflowX") == {"visible"}
    assert styles("h2, h3, .lead, summary", "breakAfter") == {"avoid"}
    assert styles("figure, details[open], .lead", "breakInside") == {"avoid"}
    assert styles(".feature .wide", "gridColumn") == {"1 / -1"}, "a narrow table makes its feature need a page"
    tab.close()
