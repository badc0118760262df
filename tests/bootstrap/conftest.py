"A project, with programs on its PATH that refuse what the real ones refuse"
import pytest

from tests.support.clouds import Clouds, entered


@pytest.fixture
def clouds(tmp_path, monkeypatch): return entered(Clouds(tmp_path), monkeypatch)


@pytest.fixture
def done(once, clouds):
    "A copy of the project after `mlops-nb bootstrap`, which a module makes once"
    clouds.copy(once)
    return clouds
