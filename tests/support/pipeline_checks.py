"What is asked of the pipelines of Azure DevOps, beyond what they do when they run"
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cronsim import CronSim, CronSimError
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from mlops_nb.ci.secrets import AzureSignature, EntraSecret
from mlops_nb.times import now

from tests.support import pipeline_files as files
from tests.support.workflow_checks import run_problem

SCHEMA = os.environ.get("AZURE_PIPELINES_SCHEMA", "")   # Microsoft's service-schema.json
PREDEFINED = {  # learn.microsoft.com/azure/devops/pipelines/build/variables
    "Agent.JobName", "Agent.OS", "Agent.OSArchitecture", "Build.ArtifactStagingDirectory", "Build.BuildId",
    "Build.Reason", "Build.Repository.Provider", "Build.SourceBranch", "Build.SourceVersion", "Pipeline.Workspace",
    "System.AccessToken", "System.CollectionUri", "System.DefaultWorkingDirectory", "System.PullRequest.IsFork",
    "System.PullRequest.PullRequestId", "System.PullRequest.TargetBranchName", "System.TeamProjectId"}
IMAGES = {"ubuntu-24.04", "windows-2025", "macOS-15"}
ENVIRONMENTS = ("dev", "staging", "production")
OUTPUTS = {"accepted", "breach", "model", "release", "retrain", "status", "version"}     # Of `summary --publish`
ALWAYS = "succeededOrFailed()"
MAIN = "eq(variables['Build.SourceBranch'], 'refs/heads/main')"
NO_FORK = "ne(variables['System.PullRequest.IsFork'], 'True')"
SECRET = re.compile(r"pass(word|wd)|secret|token|api_?key|account_?key", re.I)


class Job(NamedTuple):
    "A job of an expanded pipeline, and where it stands"
    document: dict
    stage: dict
    job: dict

    @property
    def name(self) -> str: return files.job_name(self.job)
    @property
    def steps(self) -> list[dict]: return files.steps(self.job)
    @property
    def signed_in(self) -> list[dict]: return [step for step in self.steps if step.get("task") == "AzureCLI@2"]
    @property
    def variables(self) -> dict[str, str]:
        "Of the pipeline, the stage and the job; those of a matrix are of all its rows"
        rows = list(self.job.get("strategy", {}).get("matrix", {}).values())
        shared = {name: "" for name in set.intersection(*map(set, rows))} if rows else {}
        return {name: files.as_text(value) for level in (self.document, self.stage, self.job, {"variables": shared})
                for name, value in level.get("variables", {}).items()}


def jobs(document: dict) -> list[Job]:
    "All jobs of an expanded pipeline"
    return [Job(document, stage, job) for stage in files.stages(document).values() for job in stage["jobs"]]


@cache
def validator() -> Draft7Validator: return Draft7Validator(json.loads(Path(SCHEMA).read_text()))


def texts(value: Any) -> Any:
    "As the schema has it: all scalars are text"
    if isinstance(value, dict): return {key: texts(one) for key, one in value.items()}
    if isinstance(value, list): return [texts(one) for one in value]
    return files.as_text(value)


def schema_problems(root: Path, name: str) -> Iterator[str]:
    "What Microsoft's schema says of a pipeline, as it is written and as it runs; nothing where the schema is not there"
    if not SCHEMA: return
    written = files.load(root / files.FOLDER / f"{name}.yml")
    for how, document in (("as written", written), ("as it runs", texts(files.expand(root, name)))):
        for error in validator().iter_errors(document):
            while error.context: error = max(error.context, key=lambda one: len(one.absolute_path))
            yield f"{name}, {how}: {'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"


def pipeline_problems(root: Path, name: str) -> Iterator[str]:
    "What this repository asks of a pipeline"
    try: document = files.expand(root, name)
    except files.Mistake as mistake:
        yield str(mistake)
        return
    yield from trigger_problems(root, document)
    yield from text_problems(root, name)
    yield from order_problems([*files.stages(document).values()], "stage")
    kept = [step["inputs"].get("artifact", "") for job in jobs(document) for step in job.steps
            if step.get("task") == "PublishPipelineArtifact@1"]
    if twice := [one for one in kept if kept.count(one) > 1]: yield f"the artifact {twice[0]} is published twice"
    for stage in files.stages(document).values(): yield from order_problems(stage["jobs"], "job")
    for job in jobs(document): yield from (f"{job.name}: {why}" for why in job_problems(root, job))


def trigger_problems(root: Path, document: dict) -> Iterator[str]:
    "Whoever states no trigger is started by every push to every branch"
    yield from (f"it states no {key}" for key in ("trigger", "pr") if key not in document)
    for schedule in document.get("schedules", []):
        try: CronSim(schedule["cron"], now())
        except CronSimError as error: yield f"cron {schedule['cron']}: {error}"
        if schedule.get("branches", {}).get("include") != ["main"]: yield "a schedule is not for main alone"
        if schedule.get("always") != "true": yield "a schedule runs only after a push, for `always` is not true"
    resources = document.get("resources", {})
    for one in resources.get("repositories", []):
        if not re.match(r"refs/tags/|[0-9a-f]{40}$", one.get("ref", "")):
            yield f"repository {one['repository']} is not pinned to a tag or a commit"
    for one in resources.get("pipelines", []):
        if one["source"] not in files.names(root): yield f"it follows {one['source']}, which is no pipeline"
        elif files.load(root / files.FOLDER / f"{one['source']}.yml").get("pr") != "none":
            yield f"it follows {one['source']}, which pull requests run"
        if one.get("trigger") != {"branches": {"include": ["main"]}}: yield "it follows other branches"
    for one in resources.get("webhooks", []):
        if not one.get("filters"): yield f"webhook {one['webhook']} takes any message"


def text_problems(root: Path, name: str) -> Iterator[str]:
    "What the files must not hold: free text of whoever starts a run in a script, and secrets"
    for path in [root / files.FOLDER / f"{name}.yml", *sorted((root / files.FOLDER / "templates").glob("*.yml"))]:
        text, document = path.read_text(), files.load(path)
        free = [one["name"] for one in document.get("parameters", [])
                if one.get("type") == "string" and not one.get("values") and one["name"] not in ("run", "environment")]
        for line in re.findall(r"^\s*(?:- )?(?:bash|script|run|inlineScript): (.*)$", text, re.M):
            yield from (f"{path.name}: {one} goes into a script: {line}" for one in free
                        if "run:" not in line and re.search(rf"parameters\.{one}\b", line)
                        and f"{{{{ parameters.{one} }}}}" != line.strip("$ "))
            if re.search(r"\$\([A-Za-z_.]+\)", line): yield f"{path.name}: a macro goes into a script: {line}"
            if re.search(r'(?<!")\$[A-Z_]+', line): yield f"{path.name}: quotes are left out: {line}"
            if name == path.stem and re.search(r"\$\{\{", line): yield f"{path.name}: an expression goes into {line}"
        yield from (f"{path.name}: a secret" for kind in (AzureSignature, EntraSecret)
                    if list(kind().analyze_string(text)))


def order_problems(items: list[dict], kind: str) -> Iterator[str]:
    "Names that are waited for and are not there, and circles"
    known = [item["stage"] if kind == "stage" else files.job_name(item) for item in items]
    waits: dict[str, list[str]] = {}
    for at, (name, item) in enumerate(zip(known, items, strict=True)):
        waits[name] = files.depends(item, known[at - 1:at] if kind == "stage" else [])
        yield from (f"{kind} {name} depends on {one}, which is not there" for one in waits[name] if one not in known)
        if "condition" in item: yield from condition_problems(item["condition"], waits[name], name, items)
    done: set[str] = set()
    while ready := [name for name in known if name not in done and {*waits[name]} & {*known} <= done]: done |= {*ready}
    if left := [name for name in known if name not in done]: yield f"{kind}s wait for each other: {', '.join(left)}"
    if twice := [name for name in known if known.count(name) > 1]: yield f"two {kind}s are named {twice[0]}"


def condition_problems(text: str, waits: list[str], name: str, items: list[dict]) -> Iterator[str]:
    "A condition that cannot be read, and outputs that nobody writes"
    known = {"variables": Anything(), "dependencies": Anything(), "stageDependencies": Anything()}
    try: files.evaluate(text, known, {one: lambda *_: True for one in files.STATUS})
    except files.Mistake as mistake: yield f"{name}: {mistake}"
    yield from (f"{name}: {one} is not in dependsOn" for one in re.findall(r"\bdependencies\.(\w+)", text)
                if one not in waits)
    yield from (f"{name}: unknown variable {one}" for one in re.findall(r"variables\['([^']+)'\]", text)
                if one not in PREDEFINED)
    for stage, job, step, output in re.findall(r"\bdependencies\.(\w+)\.outputs\['(\w+)\.(\w+)\.(\w+)'\]", text):
        known_jobs = [inner for one in items if one.get("stage") == stage for inner in one["jobs"]]
        yield from output_problems(known_jobs, job, step, output)


class Anything(dict):
    "Has every key"
    def __missing__(self, key: str) -> "Anything": return Anything()


def output_problems(known: list[dict], job: str, step: str, output: str) -> Iterator[str]:
    "An output that no step of a job writes"
    writes = [one.get("name") for item in known if files.job_name(item) == job for one in files.steps(item)
              if "--publish" in files.script(one)]
    if step not in writes or output not in OUTPUTS: yield f"nobody writes the output {job}.{step}.{output}"


def job_problems(root: Path, job: Job) -> Iterator[str]:
    "Limits, what it runs on, what its steps may and need"
    if "timeoutInMinutes" not in job.job: yield "no timeoutInMinutes"
    image = (job.job.get("pool") or job.document.get("pool") or {}).get("vmImage", "")
    rows = job.job.get("strategy", {}).get("matrix", {}).values()
    images = [row.get("image") for row in rows] if image == "$(image)" else [image]
    yield from (f"unknown image {one}" for one in images if one not in IMAGES)
    if "deployment" in job.job:
        said = {key: step[key] for step in job.steps for key in ("checkout", "download") if key in step}
        if said != {"checkout": "self", "download": "none"}:
            yield "a deployment job states checkout: self and download: none"
    yield from sign_in_problems(job)
    yield from variable_problems(job)
    made: list[str] = []
    for step in job.steps:
        if line := files.script(step): yield from command_problems(job, step, line, made)
        if "download" in step: yield from download_problems(root, job, step)


def sign_in_problems(job: Job) -> Iterator[str]:
    "Who may sign in, as whom, and when"
    condition = str(job.stage.get("condition", ""))
    if job.signed_in and job.document.get("lockBehavior") != "sequential":
        yield "it signs in, and lockBehavior is not sequential"
    for step in job.signed_in:
        connection, line = step["inputs"].get("azureSubscription", ""), files.script(step)
        on = re.search(r"--on (\w+)", line)
        plan = line.startswith("mlops-nb environment plan ")
        if not on or connection != ("azure-plan" if plan else f"azure-{on[1]}"):
            yield f"{line!r} signs in as {connection or 'nobody'}"
        if step.get("env", {}).get("SYSTEM_ACCESSTOKEN") != "$(System.AccessToken)":
            yield f"{line!r} cannot ask for a token again: no SYSTEM_ACCESSTOKEN"
        if (NO_FORK if plan else MAIN) not in condition: yield f"{line!r} runs for any branch"
        environment = job.job.get("environment")
        allowed = (None,) if plan or line.split()[1] in ("monitor", "events", "dispatch", "tower") else (
            (on and on[1], "rollback") if "rollback" in line else (on and on[1],))
        if environment not in allowed: yield f"{line!r} runs in environment {environment}"


def variable_problems(job: Job) -> Iterator[str]:
    "Variables that nobody sets, and secrets in variables"
    for name, value in job.variables.items():
        if SECRET.search(name): yield f"variable {name} looks like a secret"
        if "System.AccessToken" in value: yield f"variable {name} gives the token of the job to every step"
        for stage, inner, step, output in re.findall(
                r"stageDependencies\.(\w+)\.(\w+)\.outputs\['(\w+)\.(\w+)'\]", value):
            if stage not in files.depends(job.stage, []): yield f"{name}: stage {stage} is not in dependsOn"
            yield from output_problems(files.stages(job.document).get(stage, {}).get("jobs", []), inner, step, output)
        if text := re.fullmatch(r"\$\[(.*)\]", value.strip()):
            try: files.evaluate(text[1], {"stageDependencies": Anything(), "variables": Anything()})
            except files.Mistake as mistake: yield f"{name}: {mistake}"
    for step in [*job.steps, job.job.get("pool", {}), job.job.get("variables", {})]:
        used = re.findall(r"\$\(([A-Za-z_][\w.]*)\)", json.dumps(step))
        yield from (f"undefined variable {one}" for one in used if one not in PREDEFINED and one not in job.variables)


def command_problems(job: Job, step: dict, line: str, made: list[str]) -> Iterator[str]:
    "A script is one command that exists; the page of what failed is written all the same"
    if why := run_problem(line): yield why
    known = {*job.variables, *step.get("env", {})}
    yield from (f"undefined variable {one}" for one in re.findall(r"\$([A-Z_]+)", line) if one not in known)
    if "--on " in line and step not in job.signed_in: yield f"{line!r} is not signed in"
    if "SYSTEM_ACCESSTOKEN" in step.get("env", {}) and step not in job.signed_in and "mlops-nb comment" not in line:
        yield f"{line!r} needs no token"
    if "mlops-nb comment" in line and "SYSTEM_ACCESSTOKEN" not in step.get("env", {}): yield f"{line!r} has no token"
    if "mlops-nb summary" in line and {*line.split()} & {*made} and step.get("condition") != ALWAYS:
        yield f"{line!r} says nothing of a failure: condition: {ALWAYS}"
    made += re.findall(r"> (\S+)", line)


def download_problems(root: Path, job: Job, step: dict) -> Iterator[str]:
    "An artifact comes from a pipeline that is followed, and which keeps it"
    if step["download"] in ("none", "current", "all"): return
    followed = {one["pipeline"]: one["source"] for one in job.document.get("resources", {}).get("pipelines", [])}
    if step["download"] not in followed:
        yield f"it downloads of {step['download']}, which is no resource"
        return
    source = followed[step["download"]]
    if source not in files.names(root): return
    kept = [one["inputs"].get("artifact") for other in jobs(files.expand(root, source)) for one in other.steps
            if one.get("task") == "PublishPipelineArtifact@1"]
    if step.get("artifact") not in kept: yield f"{source} keeps no artifact {step.get('artifact')}"


def problems(root: Path) -> Iterator[str]:
    "All that is wrong, from the quickest check to the slowest"
    for check in (pipeline_problems, schema_problems):
        for name in files.names(root):
            try: yield from (f"{name}: {why}" for why in check(root, name))
            except files.Mistake as mistake: yield f"{name}: {mistake}"
