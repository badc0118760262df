"The project in which most jobs of these tests run"
import pytest

from tests.support.jobs import Project


@pytest.fixture
def project(tmp_path, empty_store): return Project(tmp_path/"project", empty_store)
