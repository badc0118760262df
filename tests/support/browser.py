"The Chromium in which tests look at pages"
import shutil

import pytest

from mlops_nb.tower.export import BROWSERS

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
NO_BROWSER = "a page can only be looked at in a browser, and there is no Chromium: apt-get install chromium"
browser_needed = pytest.mark.skipif(not CHROMIUM, reason=NO_BROWSER)
