"The hooks that `make hooks` installs refuse what must not be committed, and let everything else through"
import os
import subprocess

import pytest

from tests.support.acting import BIN, copy_of, git

KEY = "ghp_" + "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY1zA2"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    "A clone with its hooks"
    root = copy_of(tmp_path_factory.mktemp("hooks") / "project")
    (root / ".venv").mkdir()
    (root / ".venv/bin").symlink_to(BIN)
    subprocess.run(["make", "hooks", "READY="], cwd=root, check=True, capture_output=True)
    return root


def commit(root) -> subprocess.CompletedProcess:
    "What git says"
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-qam", "A change"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(root),
                                            "PRE_COMMIT_HOME": str(root.parent / "pre-commit")})


def test_a_lost_tag_and_a_secret_are_refused_and_noise_is_cleaned(root):
    notebook = root / "nbs/training/04_train.ipynb"
    before = notebook.read_text()
    assert '"parameters"' in before
    notebook.write_text(before.replace('"parameters"', '"parametres"', 1))
    (root / "bench/README.md").write_text(f"Sign in with {KEY}\n")
    git(root, "add", "bench/README.md")
    noisy = root / "nbs/training/01_ingest.ipynb"
    noisy.write_text(noisy.read_text().replace('"metadata": {}', '"metadata": {"scrolled": true}', 1))
    done = commit(root)
    said = done.stdout + done.stderr
    assert done.returncode
    assert "04_train.ipynb" in said and "parameters" in said
    assert "GitHub Token" in said and KEY not in said
    assert "scrolled" not in noisy.read_text()
    git(root, "checkout", "--", ".")
    git(root, "reset", "-q", "--hard")


def test_a_good_change_passes(root):
    (root / "LICENSE").write_text((root / "LICENSE").read_text() + "\n")
    done = commit(root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert git(root, "log", "-1", "--format=%s").strip() == "A change"
