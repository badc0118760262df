"""Azure DevOps and its agent on this machine: runs the pipelines of a repository for the events that start them

What it cannot show: exclusive locks, caches between runs, the images of Microsoft, and that Azure DevOps really starts
a pipeline at a time or when another has ended; the test does what Azure DevOps would do.
"""
import glob
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import pipeline_files as files
from tests.support import write_program
from tests.support.acting import git
from tests.support.devops import TOKEN

COMMAND = re.compile(r"##vso\[(?P<name>[\w.]+)(?: (?P<words>[^\]]*))?\](?P<value>.*)")
MACRO = re.compile(r"\$\(([A-Za-z_][\w.]*)\)")
ESCAPES = {"%3B": ";", "%5D": "]", "%0D": "\r", "%0A": "\n", "%AZP25": "%"}
HIDDEN = ("GITHUB_", "ACTIONS_", "MLOPS_NB_", "PYTEST", "AZURE_", "SYSTEM_", "BUILD_")
DONE, FAILED, SKIPPED = "Succeeded", "Failed", "Skipped"


def copied(source: Path, to: Path):
    "A file or a folder, over what is there"
    if source.is_dir(): shutil.copytree(source, to, dirs_exist_ok=True, symlinks=True)
    else:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, to)


@dataclass
class Run:
    "A run of a pipeline, and what it left"
    id: int
    pipeline: str
    reason: str
    branch: str
    commit: str
    artifacts: Path
    results: dict[str, str] = field(default_factory=dict)   # Of stages, and of jobs as STAGE/JOB
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)    # Of jobs as STAGE/JOB: `step.name`
    pages: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    approvals: list[tuple[str, int]] = field(default_factory=list)  # Environment, pages that the approver saw
    log: str = ""
    follows: "Run | None" = None

    @property
    def succeeded(self) -> bool: return FAILED not in self.results.values()


def status(results: Mapping[str, str]) -> dict[str, Callable[..., bool]]:
    "The status functions, over what is waited for"
    def over(names: tuple) -> list[str]: return [results[name] for name in names or results]
    return {"always": lambda: True, "canceled": lambda: False,
            "succeeded": lambda *names: all(one == DONE for one in over(names)),
            "failed": lambda *names: FAILED in over(names),
            "succeededOrFailed": lambda *names: SKIPPED not in over(names)}


def started_by_push(document: dict, branch: str, paths: list[str]) -> bool:
    "Whether a push to a branch that changes these files starts a pipeline"
    trigger = document["trigger"]
    if trigger == "none" or branch not in trigger["branches"]["include"]: return False
    patterns = [re.escape(one).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
                for one in trigger.get("paths", {}).get("include", ["**"])]
    return any(re.fullmatch(pattern, path) for pattern in patterns for path in paths)


class Organisation:
    "Pipelines of one repository; `folder` is the storage of Azure DevOps and its agent"
    def __init__(self, root: Path, folder: Path, job: Mapping[str, str]):
        self.root, self.folder, self.job = root, folder, job
        self.connections: dict[str, dict[str, str]] = {}    # What the step of one finds in its environment
        self.refused: set[str] = set()                      # Environments whose approvers say no
        self.environment: dict[str, str] = {}               # Of the agent
        self.runs: list[Run] = []

    def command(self, text: str):
        "Let `mlops-nb` be another program in pipelines: Python as text"
        write_program(self.folder / "bin/mlops-nb", text)

    def pushed(self) -> list[str]:
        "The pipelines that the last commit of main starts"
        words = ("diff-tree", "--root", "--no-commit-id", "--name-only", "-r", "main")
        paths = git(self.root, *words).split()
        return [name for name in files.names(self.root)
                if started_by_push(files.expand(self.root, name), "main", paths)]

    def following(self, run: Run) -> list[str]:
        "The pipelines that the end of a run starts"
        if not run.succeeded: return []
        return [name for name in files.names(self.root)
                for one in files.expand(self.root, name).get("resources", {}).get("pipelines", [])
                if one["source"] == run.pipeline and run.branch in one["trigger"]["branches"]["include"]]

    def receiving(self, payload: dict) -> list[str]:
        "The pipelines that a message to the incoming webhook starts"
        return [name for name in files.names(self.root)
                for one in files.expand(self.root, name).get("resources", {}).get("webhooks", [])
                if all(str(payload.get(filter["path"])) == filter["value"] for filter in one["filters"])]

    def run(self, pipeline: str, reason: str = "Manual", parameters: Mapping[str, Any] | None = None,
            follows: Run | None = None, branch: str = "main") -> Run:
        "Run a pipeline from beginning to end"
        number = len(self.runs) + 1
        commit = follows.commit if follows else git(self.root, "rev-parse", branch).strip()
        run = Run(number, pipeline, reason, branch, commit, self.folder / f"artifacts/{number}", follows=follows)
        self.runs.append(run)
        document = files.expand(self.root, pipeline, parameters)
        before: list[str] = []
        for name, stage in files.stages(document).items():
            self.run_stage(run, document, stage, files.depends(stage, before))
            before = [name]
        (self.folder / f"{number}-{pipeline}.log").write_text(run.log)
        return run

    def variables(self, run: Run, *levels: Mapping[str, Any]) -> dict[str, str]:
        "What Azure DevOps sets, and what the pipeline, its stage and its job set"
        own = {"Build.BuildId": str(run.id), "Build.Reason": run.reason, "Build.SourceVersion": run.commit,
               "Build.SourceBranch": f"refs/heads/{run.branch}", "Build.Repository.Provider": "TfsGit",
               "System.CollectionUri": self.job["SYSTEM_COLLECTIONURI"],
               "System.TeamProjectId": self.job["SYSTEM_TEAMPROJECTID"], "System.PullRequest.IsFork": "False",
               "Agent.OS": "Linux", "Agent.OSArchitecture": "X64"}
        stated = [one for level in levels for one in level.get("variables", {}).items()]
        return own | {name: files.as_text(value) for name, value in stated}

    def run_stage(self, run: Run, document: dict, stage: dict, waits: list[str]):
        "Run a stage, if its condition holds and the approvers of its environments agree"
        name = stage["stage"]
        seen = {one: {"result": run.results[one], "outputs": {
            f"{job.removeprefix(f'{one}/')}.{key}": value for job, values in run.outputs.items()
            if job.startswith(f"{one}/") for key, value in values.items()}} for one in waits}
        known = {"variables": self.variables(run, document, stage), "dependencies": seen}
        condition = stage.get("condition", "succeeded()")
        if not files.truth(files.evaluate(condition, known, status({one: run.results[one] for one in waits}))):
            run.results[name] = SKIPPED
            return
        results: dict[str, str] = {}
        asked = {job["environment"] for job in stage["jobs"] if "deployment" in job} - {"dev", "staging"}
        run.approvals += [(one, len(run.pages)) for one in sorted(asked)]
        if asked & self.refused: run.results[name] = FAILED
        for job in stage["jobs"] if name not in run.results else []:
            before = {one: results[one] for one in files.depends(job, [])}
            results[files.job_name(job)] = self.run_job(run, [document, stage, job], before)
        run.results |= {f"{name}/{job}": result for job, result in results.items()}
        run.results.setdefault(name, FAILED if FAILED in results.values() else DONE)

    def run_job(self, run: Run, levels: list[dict], before: dict[str, str]) -> str:
        "Run a job, for each row of its matrix"
        stage, job = levels[1:]
        variables = self.variables(run, *levels)
        condition = job.get("condition", "succeeded()")
        if not files.truth(files.evaluate(condition, {"variables": variables}, status(before))): return SKIPPED
        outputs: dict[str, Any] = {}
        for key, values in run.outputs.items():
            place, _, other = key.partition("/")
            outputs.setdefault(place, {})[other] = {"outputs": values}
        for name, value in variables.items():
            if text := re.fullmatch(r"\$\[(.*)\]", value.strip()):
                known = {"stageDependencies": outputs, "variables": variables}
                variables[name] = files.as_text(files.evaluate(text[1], known))
        rows = job.get("strategy", {}).get("matrix", {"": {}})
        name = f"{stage['stage']}/{files.job_name(job)}"
        done = [Job(self, run, f"{name} {row}".strip(), variables | values).run(job) for row, values in rows.items()]
        return DONE if all(done) else FAILED


class Job:
    "A job on the agent: its folders, its variables, and what its steps do"
    def __init__(self, organisation: Organisation, run: Run, name: str, variables: dict[str, str]):
        self.home, self.of, self.name, self.failed = organisation, run, name, False
        self.work = organisation.folder / "agent" / str(run.id) / name.replace("/", "-").strip("-")
        self.sources, self.staging, self.scratch = (self.work / one for one in ("s", "a", "t"))
        for one in (self.sources, self.staging, self.scratch): one.mkdir(parents=True)
        self.path: list[str] = []
        self.variables = variables | {
            "Pipeline.Workspace": str(self.work), "System.DefaultWorkingDirectory": str(self.sources),
            "Build.ArtifactStagingDirectory": str(self.staging), "Agent.TempDirectory": str(self.scratch),
            "Agent.JobName": name}

    def fill(self, text: str) -> str:
        "A text with the variables that are known; others stay as they are"
        known = self.variables | {"System.AccessToken": TOKEN}
        for _ in range(5):
            if text == (text := MACRO.sub(lambda match: known.get(match[1], match[0]), text)): break
        return text

    def run(self, job: dict) -> bool:
        "Run the steps; False if one failed"
        for step in files.steps(job):
            result = {"job": FAILED if self.failed else DONE}
            condition = step.get("condition", "succeeded()")
            if not files.truth(files.evaluate(condition, {"variables": self.variables}, status(result))): continue
            if not self.run_step({key: value for key, value in step.items() if key != "condition"}): self.failed = True
        return not self.failed

    def run_step(self, step: dict) -> bool:
        "Run one step"
        inputs = {key: self.fill(files.as_text(value)) for key, value in step.get("inputs", {}).items()}
        if "checkout" in step: return self.check_out()
        if "download" in step: return self.download(step["download"], step.get("artifact", ""))
        if "bash" in step: return self.shell(step, step["bash"], {})
        if step["task"] == "AzureCLI@2":
            connection = self.home.connections.get(inputs["azureSubscription"])
            if connection is None: raise files.Mistake(f"service connection {inputs['azureSubscription']} is not there")
            return self.shell(step, step["inputs"]["inlineScript"], connection)
        return TASKS[step["task"]](self, inputs)

    def check_out(self) -> bool:
        git(self.sources, "init", "-q")
        git(self.sources, "fetch", "-q", str(self.home.root), "+refs/heads/*:refs/remotes/origin/*")
        git(self.sources, "checkout", "-q", self.of.commit)
        return True

    def download(self, what: str, artifact: str) -> bool:
        if what == "none": return True
        assert what != "all", "a deployment job downloads everything where it does not say `download: none`"
        source = self.of if what == "current" else self.of.follows
        assert source, f"{what} has not run"
        copied(source.artifacts / artifact, self.work / what / artifact)
        return True

    def shell(self, step: dict, script: str, more: Mapping[str, str]) -> bool:
        "Run a script, and obey what it tells the agent"
        own = {name.upper().replace(".", "_"): self.fill(value) for name, value in self.variables.items()}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
        asked = {name: self.fill(value) for name, value in step.get("env", {}).items()}
        env = {**clean, "HOME": str(self.home.folder), **self.home.environment, **self.home.job, **own, **more, **asked}
        env["PATH"] = os.pathsep.join([*self.path, env["PATH"]])
        where = self.fill(step.get("workingDirectory", str(self.sources)))
        file = self.scratch / "script.sh"
        file.write_text(self.fill(script))
        self.of.commands.append(script)
        done = subprocess.run(["bash", "--noprofile", "--norc", str(file)], cwd=where, env=env, capture_output=True,
                              text=True, timeout=2400)
        text = done.stdout + done.stderr
        self.of.log += f"{self.name}: {script}\n{text}\n"
        for line in text.splitlines():
            if "##vso[" in line: self.obey(line, step.get("name", ""))
        return done.returncode == 0

    def obey(self, line: str, step: str):
        "Do what a step tells the agent"
        match = COMMAND.search(line)
        assert match, f"the agent cannot read {line}"
        words = dict(word.split("=", 1) for word in (match["words"] or "").split(";") if word)
        value = re.sub("|".join(ESCAPES), lambda found: ESCAPES[found[0]], match["value"])
        if match["name"] == "task.prependpath": self.path.insert(0, value)
        elif match["name"] == "task.uploadsummary": self.of.pages.append(Path(value).read_text())
        elif match["name"] == "task.setvariable":
            self.variables[words["variable"]] = value
            if words.get("isOutput") == "true":
                self.of.outputs.setdefault(self.name, {})[f"{step}.{words['variable']}"] = value
        else: raise AssertionError(f"the agent does not know {match['name']}")


def use_python(job: Job, inputs: dict) -> bool: return bool(inputs["versionSpec"])


def cache(job: Job, inputs: dict) -> bool:
    "A cached environment is that of the test, or the one that runs this; nothing else is cached"
    if inputs["path"] == ".venv":
        (job.sources / ".venv").mkdir(exist_ok=True)
        commands = job.home.folder / "bin"
        (job.sources / ".venv/bin").symlink_to(commands if commands.exists() else Path(sys.executable).parent)
    return True


def copy_files(job: Job, inputs: dict) -> bool:
    "Files that match, into a folder"
    source = Path(inputs.get("SourceFolder") or job.sources)
    found = [name for pattern in inputs.get("Contents", "**").splitlines()
             for name in glob.glob(pattern.strip(), root_dir=source, recursive=True, include_hidden=True)]
    for name in found:
        if (source / name).is_file(): copied(source / name, Path(inputs["TargetFolder"]) / name)
    return True


def publish(job: Job, inputs: dict) -> bool:
    "Keep a folder; one that is not there, or a name that is taken, is an error"
    source, target = Path(inputs["targetPath"]), job.of.artifacts / inputs["artifact"]
    if not source.is_dir() or target.exists(): return False
    shutil.copytree(source, target, symlinks=True)
    return True


def fetch(job: Job, inputs: dict) -> bool:
    "An artifact of this run"
    source = job.of.artifacts / inputs["artifactName"]
    if source.is_dir(): copied(source, Path(inputs["targetPath"]))
    return source.is_dir()


def results(job: Job, inputs: dict) -> bool:
    "Test results and coverage are there to be shown"
    return (job.sources / (inputs.get("testResultsFiles") or inputs["summaryFileLocation"])).is_file()


TASKS: dict[str, Callable[[Job, dict], bool]] = {
    "UsePythonVersion@0": use_python, "Cache@2": cache, "CopyFiles@2": copy_files, "PublishPipelineArtifact@1": publish,
    "DownloadPipelineArtifact@2": fetch, "PublishTestResults@2": results, "PublishCodeCoverageResults@1": results}
