"The Chromium in which tests look at pages"
import shutil
from pathlib import Path

import pytest

from mlops_nb.tower.export import BROWSERS

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
NO_BROWSER = "a page can only be looked at in a browser, and there is no Chromium: apt-get install chromium"
browser_needed = pytest.mark.skipif(not CHROMIUM, reason=NO_BROWSER)


@pytest.fixture(scope="module")     # not the session's: while it lives, its event loop is this thread's
def browser():
    "A Chromium, as Playwright drives it"
    if not CHROMIUM: pytest.skip(NO_BROWSER)
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run make setup")
    with sync.sync_playwright() as started:
        one = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


def look_at(
    browser, path: Path,
    scheme: str,                        # light or dark
    *names: str,                        # Selectors
) -> tuple[list[str], list[str]]:
    "Open a page on a phone; return what axe finds serious, and the ground's colour of each selector's first element"
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: run make setup")
    tab = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    tab.goto(path.as_uri())
    found = [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in axe.Axe().run(tab).response["violations"]
             if v["impact"] in ("serious", "critical")]
    if tab.evaluate("document.documentElement.scrollWidth > innerWidth"): found.append("wider than a phone")
    ground = "name => getComputedStyle(document.querySelector(name)).backgroundColor"
    colours = [tab.evaluate(ground, name) for name in names]
    tab.close()
    return found, colours
