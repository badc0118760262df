"What is asked of the workflow files, beyond what they do when they run"
import json
import re
import shlex
import subprocess
from pathlib import Path

import click
import yaml

from tests.support import ROOT
from tests.support.acting import BIN

USES = re.compile(r"^\s*(?:- )?uses: (?P<what>\S+)(?P<rest>.*)$", re.M)
COMMAND = re.compile(r"(make|mlops-nb) ")


def actionlint(root: Path) -> list:
    "Syntax, expressions, needs, inputs of reusable workflows and actions, and shellcheck of what is run"
    done = subprocess.run([BIN / "actionlint", "-format", "{{json .}}"], cwd=root, capture_output=True, text=True)
    problems = [f"{found['filepath']}:{found['line']}: {found['message']} [{found['kind']}]"
                for found in json.loads(done.stdout or "[]")]
    return problems + ([done.stderr] if done.stderr else [])


def zizmor(root: Path) -> list:
    "Pins, injection, permissions, caches of what is published"
    command: list[str | Path] = [
        BIN / "zizmor", "--offline", "--no-progress", "--persona", "pedantic", "--min-severity", "low",
        "--format", "json", ".github"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if not done.stdout: return [done.stderr]
    return [f"{found['locations'][0]['symbolic']['key']}: {found['desc']} [{found['ident']}]"
            for found in json.loads(done.stdout)]


def files(root: Path) -> dict:
    "Workflows and actions by path"
    paths = [path for path in sorted((root / ".github").rglob("*.yml")) if path.parent.name in ("workflows", "setup")]
    return {path: yaml.safe_load(path.read_text()) for path in paths}


def steps(document: dict) -> list:
    "All steps of a workflow or an action"
    jobs = document["jobs"].values() if "jobs" in document else [document["runs"]]
    return [step for job in jobs for step in job.get("steps", [])]


def commands() -> click.Group:
    "`mlops-nb`"
    from mlops_nb.cli.main import main
    return main


def understood(line: str) -> str:
    "Why `mlops-nb` or `make` would not take a command; empty where it would"
    words = shlex.split(line.partition(" > ")[0].partition(" >> ")[0])
    if words[0] == "make":
        known = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
        targets = [word for word in words[1:] if not word.startswith("--") and "=" not in word]
        return next((f"make has no {word}" for word in targets if word not in known), "")
    words = words[1:]
    group: click.Command = commands()
    while isinstance(group, click.Group) and words:
        if not (command := group.get_command(click.Context(group), words[0])): break
        group, words = command, words[1:]
    options = [option for one in group.params if isinstance(one, click.Option) for option in one.opts] + ["--help"]
    if isinstance(group, click.Group) and not group.invoke_without_command: return f"mlops-nb has no {words[:1]}"
    return next((f"{group.name} has no {word}" for word in words if word.startswith("--") and word not in options), "")


def house(root: Path) -> list:
    "The rules of this repository"
    found, documents = [], {path.relative_to(root).as_posix(): document for path, document in files(root).items()}
    for name, document in documents.items():
        found += [f"{name}: {why}" for step in steps(document) if "run" in step and (why := run_problem(step["run"]))]
        found += [f"{name}: {why}" for why in text_problems((root / name).read_text())]
        if "jobs" not in document: continue
        problems = [*workflow_problems(document), *following_problems(document, documents),
                    *call_problems(document, documents)]
        found += [f"{name}: {why}" for why in problems]
    return found


def run_problem(line: str) -> str:
    "A person types one command, and it exists"
    if not COMMAND.match(line) or "\n" in line.strip() or re.search(r"&&|;|\|", line):
        return f"{line!r} is not one make or mlops-nb command"
    return understood(line)


def text_problems(text: str) -> list:
    "Pins that say their version, and no secrets"
    unpinned = [use["what"] for use in USES.finditer(text)
                if not use["what"].startswith("./") and not re.search(r"# v\d+\.\d+\.\d+", use["rest"])]
    found = [f"{what} has no comment that says its version" for what in unpinned]
    if "secrets." not in text: return found
    return [*found, "it asks for a secret; identities come from OpenID Connect, the token from github.token"]


NEEDED = {  # What a job does, and the right that it needs for it
    "AZURE_CLIENT_ID": "id-token", "mlops-nb comment": "pull-requests", "mlops-nb dispatch": "contents",
    "make publish": "contents", "actions/deploy-pages": "pages"}
READ = {"github-token: ${{ github.token }}": "actions",  # An artifact of another run
        "actions/configure-pages": "pages"}
FOLLOWS = "github.event.workflow_run.head_repository.full_name == github.repository"
GUARDS = ("github.event.pull_request.head.repo.full_name == github.repository", "github.ref == 'refs/heads/main'",
          "github.event_name != 'pull_request'")


def rights(job: dict) -> set:
    "What a job may write"
    return {right for right, level in (job.get("permissions") or {}).items() if level == "write"}


def workflow_problems(document: dict) -> list:
    "Rights, limits and guards of a workflow and its jobs"
    events, found = document[True], []
    if document.get("permissions") != {}: found.append("its permissions are not empty: each job states its own")
    missing = [name for name, job in document["jobs"].items() if "concurrency" not in document | job]
    if missing: found.append(f"no concurrency for {', '.join(missing)}")
    if "pull_request_target" in events: found.append("it runs pull requests with the rights of the base branch")
    for name, job in document["jobs"].items():
        if "permissions" not in job: found.append(f"{name} states no permissions")
        if "uses" not in job and "timeout-minutes" not in job: found.append(f"{name} has no timeout-minutes")
        found += [f"{name} {why}" for why in job_problems(job, events)]
    return found


def job_problems(job: dict, events: dict) -> list:
    "Rights that a job lacks, and those that a fork could use"
    text, condition, found = yaml.safe_dump(job, width=1000), str(job.get("if")), []
    may_write, may_read = rights(job), job.get("permissions", {})
    found += [f"has no right {right}: write, for {what}" for what, right in NEEDED.items()
              if what in text and right not in may_write]
    found += [f"has no right {right}: read, for {what}" for what, right in READ.items()
              if what in text and right not in may_read]
    if "workflow_run" in events and "workflow_run.id" in str(job) and FOLLOWS not in condition:
        found.append("takes what a fork's run has made")
    if "pull_request" in events and may_write and not any(guard in condition for guard in GUARDS):
        found.append(f"gives a fork's pull request the right {', '.join(may_write)}")
    if "tags" in (events.get("push") or {}):
        setups = [step for step in job["steps"] if re.match(r"\./.*actions/setup", step.get("uses", ""))]
        cached = [step for step in setups if step.get("with", {}).get("cache") != "false"]
        found += ["publishes what may come from a cache" for step in cached]
    return found


def following_problems(document: dict, documents: dict) -> list:
    "A workflow that follows others names workflows that are there, and that no pull request runs"
    asked = (document[True].get("workflow_run") or {}).get("workflows", [])
    known = {one["name"]: one for one in documents.values() if "jobs" in one}
    found = [f"it follows {name}, which is no workflow" for name in asked if name not in known]
    return found + [f"it follows {name}, which pull requests run" for name in asked
                    if "pull_request" in known.get(name, {True: {}})[True]]


def call_problems(document: dict, documents: dict) -> list:
    "A caller gives what the reusable workflow declares: values of the right type, and the rights of all its jobs"
    found = []
    kinds: dict[str, type | tuple[type, ...]] = {
        "boolean": bool, "number": (int, float), "string": (str, int, float)}
    for name, job in document["jobs"].items():
        if not (called := documents.get(job.get("uses", "").removeprefix("./"))): continue
        declared = called[True]["workflow_call"].get("inputs", {})
        literals = {key: value for key, value in job.get("with", {}).items() if "${{" not in str(value)}
        found += [f"{name} gives {value!r} for {key}, a {declared[key]['type']}" for key, value in literals.items()
                  if not isinstance(value, kinds[declared[key]["type"]])]
        found += [f"{name} does not hand on the right {right} of {inner}" for inner, one in called["jobs"].items()
                  for right in rights(one) - rights(job)]
    return found


def problems(root: Path):
    "All that is wrong, from the quickest check to the slowest"
    for check in (actionlint, zizmor, house): yield from check(root)
