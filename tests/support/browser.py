"The Chromium in which tests look at pages"
import shutil

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
