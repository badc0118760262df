"workspace.repair: truncated and zeroed databases keep every row whose page can be read, and never hold a wrong one"
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mlops_nb.cli.new import database_makers
from mlops_nb.project import Project
from mlops_nb.workspace.mlflow_store import build_store
from mlops_nb.workspace.repair import find_damage, repair
from mlops_nb.workspace.workspace import Workspace, add_job, save_result

PAGE = 4096


def rows(path: Path) -> dict[str, set]:
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: {*db.execute(f'SELECT * FROM "{table}"')} for table in tables if not table.startswith("sqlite_")}


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    "A project whose workspace.db has rows of all lengths in each table"
    root = tmp_path_factory.mktemp("full")
    workspace = Workspace(root)
    for number in range(150):
        job = add_job(workspace, {"name": f"job {number}", "file": "f" * number, "kind": "pipeline", "signature": "s",
                                  "experiment": "e"}, ["prepare", "train"])
        workspace.update("jobs", {"id": job}, error="x" * (number % 7) * 900)
        save_result(workspace, f"key {number}", job, "train", {"o": {"path": "p" * number, "fingerprint": "f"}})
        workspace.db.execute("INSERT INTO fingerprints VALUES (?, ?, ?)", (f"/data/{number}", "1:2:3", "h" * 64))
        workspace.db.execute(
            "INSERT INTO assets VALUES ('data', 'n', ?, 'uri_file', '/p', 'f', 1.5, '{}')", (str(number),))
    workspace.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    workspace.db.execute("PRAGMA journal_mode = DELETE")
    workspace.db.close()
    for held in workspace.fresh.values(): held.close()
    return root


@pytest.fixture
def project(full, tmp_path) -> Project:
    shutil.copytree(full, tmp_path / "project")
    return Project(tmp_path / "project")


def mend(project: Project): return repair(project.workspace_db, database_makers(project)[project.workspace_db])


def check(project: Project, before: dict[str, set], least: float):
    "The repaired database is sound, opens as a workspace, holds no row that was not there, and enough of them"
    after = rows(project.workspace_db)
    assert find_damage(project.workspace_db) == ""
    assert {table: after[table] - before[table] for table in before} == {table: set() for table in before}
    assert sum(map(len, after.values())) >= least * sum(map(len, before.values()))
    Workspace(project.root).db.close()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 0.97])
def test_a_truncated_file(project, share):
    before, data = rows(project.workspace_db), project.workspace_db.read_bytes()
    project.workspace_db.write_bytes(data[:int(len(data) * share)])
    if share: assert find_damage(project.workspace_db)
    found = mend(project)
    check(project, before, max(0, 0.8 * share - 0.14))
    assert found.damaged.stat().st_size == int(len(data) * share)


@pytest.mark.parametrize("seed", range(20))
def test_zeroed_pages(project, seed):
    before, data = rows(project.workspace_db), bytearray(project.workspace_db.read_bytes())
    count = len(data) // PAGE
    for page in random.Random(seed).sample(range(count), 1 + seed % 11):
        data[page * PAGE:(page + 1) * PAGE] = bytes(PAGE)
    project.workspace_db.write_bytes(data)
    mend(project)
    check(project, before, 1 - 5 * (1 + seed % 11) / count)


def test_the_page_that_names_the_tables_costs_no_row_of_the_others(project):
    before, data = rows(project.workspace_db), project.workspace_db.read_bytes()
    project.workspace_db.write_bytes(bytes(PAGE) + data[PAGE:])
    assert find_damage(project.workspace_db) == "file is not a database"
    mend(project)
    assert rows(project.workspace_db) == before


@pytest.mark.parametrize("seed", range(10))
def test_bytes_that_were_overwritten(project, seed):
    data, chance = bytearray(project.workspace_db.read_bytes()), random.Random(seed)
    for _ in range(30): data[chance.randrange(len(data))] = chance.randrange(256)
    project.workspace_db.write_bytes(data)
    mend(project)
    assert find_damage(project.workspace_db) == ""


def test_mlflows_database(tmp_path):
    path = tmp_path / "mlflow.db"
    build_store(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.executemany("INSERT INTO experiments (name, artifact_location, lifecycle_stage) VALUES (?, 'a', 'active')",
                       [(f"experiment {number}",) for number in range(200)])
    before, data = rows(path), bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        root, = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'params'").fetchone()
    data[(root - 1) * PAGE:root * PAGE] = bytes(PAGE)
    path.write_bytes(data)
    found = repair(path, lambda new: build_store(new, path))
    assert "params" in found.torn and rows(path) == before and find_damage(path) == ""


def test_what_is_sound_stays(project):
    before = project.workspace_db.read_bytes()
    assert find_damage(project.workspace_db) == "" and project.workspace_db.read_bytes() == before
