"The pipelines of Azure DevOps: read by Microsoft's schema and by our rules, mutated, and compared with GitHub's"
import itertools
import re
import shutil
from pathlib import Path

import pytest

from tests.support import ROOT, pipeline_checks, pipeline_files


def files(folder: Path) -> Path:
    "A copy of the pipelines"
    shutil.copytree(ROOT / ".azure-pipelines", folder / ".azure-pipelines")
    return folder


def test_the_pipelines_are_in_order():
    for name in pipeline_files.names(ROOT): assert [*pipeline_checks.pipeline_problems(ROOT, name)] == []


@pytest.mark.parametrize("name", pipeline_files.names(ROOT))
def test_the_schema_takes_a_pipeline(name):
    if not pipeline_checks.SCHEMA:
        pytest.skip("AZURE_PIPELINES_SCHEMA does not name Microsoft's service-schema.json")
    assert [*pipeline_checks.schema_problems(ROOT, name)] == []


SHARED = """\
resources:
  repositories:
  - {repository: shared, type: git, name: a/b, ref: refs/heads/main}
"""
MUTATIONS: dict[str, tuple] = {  # What is done to which file: old text, new text
    "unknown key of a job": ("training", "        timeoutInMinutes: 350", "        timeoutMinutes: 350"),
    "unknown key of a step": ("ci", "      - bash: make portable", "      - run: make portable"),
    "unknown key of a pipeline": ("monitoring", "schedules:\n", "schedule:\n"),
    "unknown key of a stage": ("environment", "    dependsOn: []\n", "    needs: []\n"),
    "unknown task": ("ci", "DownloadPipelineArtifact@2", "DownloadArtifacts@2"),
    "task without its version": ("templates/setup", "UsePythonVersion@0", "UsePythonVersion"),
    "unknown task input": ("templates/keep", "      targetPath:", "      target:"),
    "unknown value of a task input": ("templates/azure", "scriptType: bash", "scriptType: sh"),
    "missing task input": ("templates/setup", "      path: .venv\n", ""),
    "bad cron": ("monitoring", '"47 4 * * *"', '"47 24 * * *"'),
    "schedule of all branches": ("training",
        "    branches:\n      include: [main]\n    always: true\n",
        "    always: true\n"),
    "schedule only after a push": ("training", "    always: true\n", ""),
    "no trigger stated": ("deployment", "trigger: none\n", ""),
    "no pull requests stated": ("training", "pr: none\n", ""),
    "stage that is not there": ("deployment", "dependsOn: [version, staging]", "dependsOn: [version, stagging]"),
    "stages in a circle": ("deployment", "    dependsOn: version\n", "    dependsOn: [version, production]\n"),
    "job that is not there": ("ci", "    dependsOn: model\n", "    dependsOn: models\n"),
    "condition on a stage that is not waited for": ("deployment",
        "dependsOn: [version, staging]",
        "dependsOn: version"),
    "output of a stage that is not waited for": ("deployment", "dependsOn: [version, staging]", "dependsOn: [staging]"),
    "unknown output": ("deployment", "version.verdict.release", "version.verdict.released"),
    "unknown step of an output": ("deployment", "outputs['verdict.version']", "outputs['verdicts.version']"),
    "unknown function": ("ci", "and(succeeded(), eq(", "all(succeeded(), eq("),
    "condition that is not closed": ("docs",
        "ne(variables['Build.Reason'], 'ResourceTrigger'))",
        "ne(variables['Build.Reason'], 'ResourceTrigger')"),
    "unknown variable in a condition": ("ci", "variables['Build.Repository.Provider']", "variables['Build.Provider']"),
    "missing condition of a page": ("templates/apply", "\n                  condition: succeededOrFailed()", ""),
    "missing condition for main": ("training",
        "    condition: and(succeeded(), eq(variables['Build.SourceBranch'], 'refs/heads/main'))\n",
        ""),
    "missing condition for forks": (
        "environment", ",\n          ne(variables['System.PullRequest.IsFork'], 'True')", ""),
    "undefined variable": ("ci", "vmImage: $(image)", "vmImage: $(imagee)"),
    "variable of one row of a matrix": ("ci", '{image: macOS-15, python: "3.11"}', "{image: macOS-15}"),
    "undefined variable in a script": ("training", '--release "$RELEASE"', '--release "$RELEASED"'),
    "undefined variable of a step": ("ci", "          NUMBER: $(System.PullRequest.PullRequestId)\n", ""),
    "secret in a variable": ("training", "  RELEASE: ", "  CLIENT_SECRET: abc\n  RELEASE: "),
    "token in a variable": ("ci", "variables:\n", "variables:\n  RIGHT: $(System.AccessToken)\n"),
    "secret in a value": ("training", "  RELEASE: ", f"  OTHER: abc8Q~{'a1' * 17}\n  RELEASE: "),
    "token for a step that needs none": ("ci",
        "          BASE: ",
        "          SYSTEM_ACCESSTOKEN: $(System.AccessToken)\n          BASE: "),
    "no token to sign in again": ("templates/azure", "    env:\n      SYSTEM_ACCESSTOKEN: $(System.AccessToken)\n", ""),
    "no token to comment": ("ci",
        "          SYSTEM_ACCESSTOKEN: $(System.AccessToken)\n          NUMBER",
        "          NUMBER"),
    "unpinned template": ("ci", "template: templates/setup.yml", "template: setup.yml@shared"),
    "unpinned repository": ("ci", "pool:\n  vmImage: ubuntu-24.04\n", f"{SHARED}pool:\n  vmImage: ubuntu-24.04\n"),
    "template that is not there": ("ci", "templates/setup.yml", "templates/set-up.yml"),
    "unknown parameter of a template": ("environment", "{environment: staging, after", "{environment: staging, behind"),
    "missing parameter of a template": ("monitoring", "              connection: azure-production\n", "", 1),
    "unknown parameter in an expression": ("training", "parameters.release }}", "parameters.releases }}"),
    "unpinned image": ("ci", "windows-2025", "windows-latest"),
    "wrong connection": ("deployment", "connection: azure-staging", "connection: azure-production"),
    "wrong environment": ("deployment", "environment: staging", "environment: dev"),
    "plan that may write": ("templates/plan", "connection: azure-plan", "connection: azure-dev"),
    "command that is not signed in": ("deployment",
        "- bash: mlops-nb summary release.json --publish",
        "- bash: mlops-nb release --on production --json"),
    "no lock": ("deployment", "lockBehavior: sequential\n", ""),
    "unknown lock": ("deployment", "lockBehavior: sequential", "lockBehavior: serial"),
    "no checkout in a deployment job": ("training", "                - checkout: self\n", ""),
    "all artifacts in a deployment job": ("training", "                - download: none\n", ""),
    "no timeout": ("docs", "    timeoutInMinutes: 45\n", ""),
    "following what is not there": ("deployment", "source: training", "source: trainings"),
    "following what pull requests run": ("deployment", "source: training", "source: ci"),
    "following all branches": ("deployment",
        "      trigger:\n        branches:\n          include: [main]\n",
        "      trigger: true\n"),
    "artifact that nobody keeps": ("deployment", "artifact: verdict", "artifact: verdicts"),
    "artifact of what is not followed": ("deployment", "download: training", "download: trained"),
    "artifact twice": ("training", "artifact: verdict", "artifact: notebooks"),
    "webhook that takes anything": ("monitoring",
        '      filters:\n        - path: "on"\n          value: production\n',
        ""),
    "script injection from a parameter": ("deployment", '--reason "$REASON"', "--reason ${{ parameters.reason }}"),
    "script injection from a macro": ("ci",
        'mlops-nb diff "$BASE"',
        'mlops-nb diff "$(System.PullRequest.TargetBranchName)"'),
    "quotes left out": ("deployment", '--reason "$REASON"', "--reason $REASON"),
    "unknown command": ("monitoring", "mlops-nb tower", "mlops-nb towers"),
    "unknown option": ("ci", "--json > training.json", "--jsn > training.json"),
    "unknown target": ("ci", "make portable", "make windows"),
    "script instead of a command": ("docs", "bash: make docs", "bash: make docs && cp -r _docs site"),
    "bad indentation": ("ci", "    steps:\n", "   steps:\n"),
    "expression that is not closed": ("training", "${{ parameters.inputs }}", "${{ parameters.inputs }"),
    "duplicate key": ("docs", "    timeoutInMinutes: 45\n", "    timeoutInMinutes: 45\n    timeoutInMinutes: 46\n"),
}


def mutate(root: Path, name: str):
    "Plant a mistake in a copy of the pipelines"
    pipeline, old, new, *count = MUTATIONS[name]
    file = root / ".azure-pipelines" / f"{pipeline}.yml"
    text = file.read_text()
    assert old in text, "the mutation has nothing to change"
    file.write_text(text.replace(old, new, *count))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_is_found(tmp_path, name):
    mutate(files(tmp_path), name)
    if next(pipeline_checks.problems(tmp_path), None): return
    if not pipeline_checks.SCHEMA: pytest.skip("only Microsoft's schema knows it: AZURE_PIPELINES_SCHEMA is not set")
    pytest.fail(f"not found: {name}")


# Both providers, job by job: (workflow, jobs of GitHub) and (pipeline, jobs of Azure DevOps)
PAIRS = {("ci", "test"): ("ci", "test"), ("ci", "windows"): ("ci", "windows"), ("ci", "model"): ("ci", "model"),
         ("ci", "comment"): ("ci", "comment"), ("environment", "image"): ("environment", "image"),
         ("environment", "plan"): ("environment", "plan_dev", "plan_staging", "plan_production"),
         ("environment", "apply"): ("environment", "apply_dev", "apply_staging", "apply_production"),
         ("training", "train"): ("training", "train"), ("deployment", "version"): ("deployment", "version"),
         ("deployment", "staging"): ("deployment", "staging"),
         ("deployment", "production"): ("deployment", "production"),
         ("deployment", "rollback"): ("deployment", "rollback"), ("monitoring", "monitor"): ("monitoring", "monitor"),
         ("docs", "build"): ("docs", "build"), ("docs", "tutorials"): ("docs", "tutorials"),
         ("docs", "gallery"): ("docs", "gallery")}
ONLY_GITHUB = {  # Jobs that Azure DevOps has not, and why
    ("deployment", "approve"): "environments of Azure DevOps have approvals on every plan",
    ("monitoring", "publish"): "the docs pipeline follows monitoring", ("docs", "publish"): "Azure DevOps has no pages",
    ("release", "build"): "the template itself is released at GitHub",
    ("release", "publish"): "the template itself is released at GitHub"}
ONLY_GITHUB_COMMANDS = {"mlops-nb release --on production --version $VERSION --until-approval --json",
                        "make unpublished"}


def normal(line: str) -> str:
    "A command without its quotes, its file and the folder of its results"
    line = line.partition(" > ")[0].replace('"', "").replace("$REPORT", "$EVIDENCE")
    return re.sub(r" RESULTS=\w+", "", line).strip()


def github_commands(workflow: str, name: str) -> list[str]:
    "The commands of a job, for each row of its matrix that they name"
    job = pipeline_files.load(ROOT / f".github/workflows/{workflow}.yml")["jobs"][name]
    matrix = {key: values for key, values in job.get("strategy", {}).get("matrix", {}).items() if key != "include"}
    found = []
    for row in itertools.product(*matrix.values()):
        for step in (step for step in job["steps"] if "run" in step):
            text = step["run"]
            for variable, value in step.get("env", {}).items():
                for key, one in zip(matrix, row, strict=True):
                    if value == f"${{{{ matrix.{key} }}}}": text = text.replace(f'"${variable}"', one)
            found.append(normal(text))
    return [line for line in found if line not in ONLY_GITHUB_COMMANDS]


def setup_commands() -> set[str]:
    setup = pipeline_files.load(ROOT / ".azure-pipelines/templates/setup.yml")
    return {line for step in setup["steps"] if (line := pipeline_files.script(step))}


def devops_commands(pipeline: str, *names: str) -> list[str]:
    "The commands of jobs, without those of the set-up; stages of one job are known by their stage"
    known = {name: job for job in pipeline_checks.jobs(pipeline_files.expand(ROOT, pipeline))
             for name in (job.name, job.stage["stage"])}
    lines = [pipeline_files.script(step) for name in names for step in known[name].steps]
    return [normal(line) for line in lines if line and line not in setup_commands()]


@pytest.mark.parametrize("job", PAIRS, ids="/".join)
def test_both_providers_give_the_same_commands(job):
    assert devops_commands(*PAIRS[job]) == github_commands(*job)


def test_no_job_is_forgotten():
    github = {(path.stem, name) for path in (ROOT / ".github/workflows").glob("*.yml")
              for name in pipeline_files.load(path)["jobs"]}
    assert github == PAIRS.keys() | ONLY_GITHUB.keys()
    paired = {(pipeline, name) for pipeline, *names in PAIRS.values() for name in names}
    for name in pipeline_files.names(ROOT):
        for job in pipeline_checks.jobs(pipeline_files.expand(ROOT, name)):
            assert {(name, job.name), (name, job.stage["stage"])} & paired


def triggers(document: dict, key: str) -> tuple:
    "Branches, paths and times at which Azure DevOps starts a pipeline"
    said = document.get(key, {})
    return ([], []) if said == "none" else (said.get("branches", {}).get("include", []),
                                            said.get("paths", {}).get("include", []))


@pytest.mark.parametrize("name", pipeline_files.names(ROOT))
def test_both_providers_start_at_the_same_moments(name):
    github = pipeline_files.load(ROOT / f".github/workflows/{name}.yml")["on"]
    document = pipeline_files.expand(ROOT, name)
    assert [one["cron"] for one in document.get("schedules", [])] == [one["cron"] for one in github.get("schedule", [])]
    def paths(event: str) -> list[str]:
        said = (github.get(event) or {}).get("paths", [])
        return [path.replace(".github/workflows", ".azure-pipelines") for path in said]
    pushed, asked = triggers(document, "trigger"), triggers(document, "pr")
    assert (bool(pushed[0]), pushed[1]) == ("push" in github, paths("push"))
    assert (bool(asked[0]), asked[1]) == ("pull_request" in github, paths("pull_request"))
    followed = [one["source"] for one in document.get("resources", {}).get("pipelines", [])]
    assert followed == ((github.get("workflow_run") or {}).get("workflows", []) if name != "docs" else ["monitoring"])
