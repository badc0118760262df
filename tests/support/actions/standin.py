"Does on one machine what the actions of GitHub do that the workflows use: a folder is GitHub"
import glob
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

GITHUB = Path(os.environ["STANDIN_FOLDER"])
ARTIFACTS = GITHUB / "artifacts" / os.environ.get("GITHUB_RUN_ID", "")  # Those of this run


def given(name: str) -> str: return os.environ.get(f"IN_{name}", "").strip()


def output(name: str, value):
    with open(os.environ["GITHUB_OUTPUT"], "a", encoding="utf-8") as file: file.write(f"{name}={value}\n")


def copied(source: Path, to: Path):
    "Files and folders, over what is there"
    if source.is_dir(): shutil.copytree(source, to, dirs_exist_ok=True, symlinks=True)
    else:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, to)


def checkout():
    "The commit of the event, or another one; of a foreign repository, an empty folder"
    if given("PATH"): return Path(given("PATH")).mkdir(exist_ok=True)
    commands = (["init", "-q", "."],
                ["fetch", "-q", os.environ["STANDIN_PROJECT"], "+refs/heads/*:refs/remotes/origin/*"],
                ["checkout", "-q", given("REF") or os.environ["GITHUB_SHA"]])
    for words in commands: subprocess.run(["git", *words], check=True)


def python():
    output("python-version", sys.version.split()[0])


def save():
    copied(Path(given("PATH")), GITHUB / "cache" / given("KEY"))
    (GITHUB / "cache" / f"{given('KEY')}.from").write_text(os.getcwd())


def restore():
    """The key itself, else the newest that begins with one of `restore-keys`; a cached environment is that of the
    test, or the one that runs this"""
    if given("PATH") == ".venv":
        Path(".venv").mkdir(exist_ok=True)
        Path(".venv/bin").symlink_to(GITHUB / "bin" if (GITHUB / "bin").exists() else Path(sys.executable).parent)
        return output("cache-hit", "true")
    known = sorted((path for path in (GITHUB / "cache").glob("*") if path.is_dir()),
                   key=lambda path: path.stat().st_mtime, reverse=True)
    starts = given("RESTORE_KEYS").split()
    found = next((path for path in known if path.name == given("KEY")),
                 None) or next((path for start in starts for path in known if path.name.startswith(start)), None)
    output("cache-hit", str(bool(found) and found.name == given("KEY")).lower())
    if not found: return
    copied(found, Path(given("PATH")))
    for file in Path(given("PATH")).glob("*.db"): moved(file, found.with_name(f"{found.name}.from").read_text())


def moved(file: Path, before: str):
    "GitHub's folder is the same in every run, here it is not: say so to a database that knows where its files are"
    with closing(sqlite3.connect(file)) as db: text = "\n".join(db.iterdump()).replace(before, os.getcwd())
    for part in file.parent.glob(f"{file.name}*"): part.unlink()
    with closing(sqlite3.connect(file)) as db: db.executescript(text)


def upload():
    "Hidden files are left out, as GitHub does, unless they are asked for"
    hidden = given("INCLUDE_HIDDEN_FILES") == "true"
    names = [name for pattern in given("PATH").splitlines()
             for name in glob.glob(pattern.strip(), recursive=True, include_hidden=hidden)]
    kept = [name for name in names if hidden or not any(part.startswith(".") for part in Path(name).parts)]
    if not kept: print(f"No files were found with the provided path: {given('PATH')}")
    for name in kept:
        copied(Path(name), ARTIFACTS / given("NAME") / (name if len(names) > 1 else Path(name).name
                                                        if Path(name).is_file() else ""))
    output("artifact-url", f"https://github.invalid/artifacts/{given('NAME')}")


def download():
    "An artifact of this run, or, with a token that may read it, of another one"
    if given("RUN_ID") and not given("GITHUB_TOKEN"): sys.exit("a token is needed for an artifact of another run")
    source = (GITHUB / "artifacts" / given("RUN_ID") if given("RUN_ID") else ARTIFACTS) / given("NAME")
    if not source.is_dir(): sys.exit(f"Artifact not found for name: {given('NAME')}")
    copied(source, Path(given("PATH")))


def pages(): copied(Path(given("PATH")), ARTIFACTS / "github-pages")


def deploy():
    copied(ARTIFACTS / "github-pages", GITHUB / "site")
    output("page_url", "https://github.invalid/site")


globals()[sys.argv[1]]()
