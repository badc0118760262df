"The workflows of GitHub Actions: read by linters, mutated, and run by nektos/act against a folder that is a GitHub"
import shutil

import pytest

from tests.support import ROOT, workflow_checks
from tests.support.acting import git


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    "The workflow files, in a repository of their own"
    root = tmp_path_factory.mktemp("workflows")
    shutil.copytree(ROOT / ".github", root / ".github")
    git(root, "init", "-q")
    return root


def test_the_workflows_are_in_order(files):
    if not shutil.which("shellcheck"): pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    assert [*workflow_checks.problems(files)] == []


MUTATIONS = {  # What is done to which file: old text, new text
    "unknown key of a job": ("training", "    timeout-minutes: 350", "    timeout-minuts: 350"),
    "unknown key of a step": ("ci", "      - run: make portable", "      - runs: make portable"),
    "unknown event": ("monitoring", "  schedule:\n", "  scheduled:\n"),
    "bad cron": ("monitoring", '"47 4 * * *"', '"47 24 * * *"'),
    "bad needs": ("deployment", "    needs: [version, staging]", "    needs: [version, stagging]"),
    "needs in a circle": ("deployment", "    needs: version\n", "    needs: [version, production]\n"),
    "output of a job that is not needed": ("deployment", "    needs: [version, staging]\n", "    needs: staging\n"),
    "unknown output": ("deployment", "needs.version.outputs.release", "needs.version.outputs.accepted"),
    "unknown step": ("deployment", "steps.verdict.outputs.version", "steps.verdicts.outputs.version"),
    "undeclared secret": ("training",
        "          NOTEBOOKS: ${{ steps.notebooks.outputs.artifact-url }}",
        "          NOTEBOOKS: ${{ secrets.NOTEBOOKS }}"),
    "undeclared secret handed on": ("monitoring",
        "    with:\n      tower",
        "    secrets:\n      key: ${{ github.token }}\n    with:\n      tower"),
    "inherited secrets": ("monitoring", "    with:\n      tower", "    secrets: inherit\n    with:\n      tower"),
    "missing input of a reusable workflow": ("docs",
        "        default: false\n",
        "        required: true\n      day:\n        type: string\n        required: true\n"),
    "wrong input of a reusable workflow": ("monitoring", "      tower: true", "      towers: true"),
    "wrong type of a reusable workflow's input": ("monitoring", "      tower: true", "      tower: perhaps"),
    "unknown reusable workflow": ("monitoring", "workflows/docs.yml", "workflows/doc.yml"),
    "wrong input of the local action": ("ci", "          python: ${{", "          pyton: ${{"),
    "tag instead of a commit": ("ci",
        "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2",
        "actions/checkout@v4"),
    "branch instead of a commit": ("docs",
        "deploy-pages@d6db90164ac5ed86f2b6aed7e0febac5b3c0c03e # v4.0.5",
        "deploy-pages@main"),
    "pin without its version": ("release",
        "d3f86a106a0bac45b974a628896c90dbdf5c8093 # v4.3.0",
        "d3f86a106a0bac45b974a628896c90dbdf5c8093"),
    "script injection from a pull request": ("ci",
        'mlops-nb diff "$BASE"',
        'mlops-nb diff "${{ github.event.pull_request.head.ref }}"'),
    "script injection from an input": ("deployment",
        '--version "$VERSION" --approve-as',
        "--version ${{ inputs.version }} --approve-as"),
    "script injection from an event": ("training",
        "mlops-nb run pipelines/training/pipeline.yml",
        "mlops-nb run ${{ github.event.client_payload.file }}"),
    "quotes left out": ("deployment", '--reason "$REASON"', "--reason $REASON"),
    "missing permission": ("training",
        "    permissions:\n      contents: read\n      id-token: write         # to sign in at Azure\n    environment",
        "    environment"),
    "permission to sign in": ("deployment", "      id-token: write         # to sign in at Azure\n", "", 1),
    "permission to comment": ("ci", "      pull-requests: write    # the comment\n", ""),
    "permission that the caller does not hand on": ("monitoring",
        "      pages: write            # to publish the site\n",
        ""),
    "permissions of the whole workflow": ("monitoring", "permissions: {}", "permissions: write-all"),
    "misspelt permission": ("docs", "      pages: write ", "      page: write "),
    "right without a guard for forks": ("environment",
        "&& github.event.pull_request.head.repo.full_name == github.repository",
        ""),
    "pull_request_target": ("ci", "  pull_request:\n", "  pull_request_target:\n"),
    "credentials kept by the checkout": ("ci", "          persist-credentials: false\n", "", 1),
    "following what is not there": ("deployment", "workflows: [training]", "workflows: [trainings]"),
    "following what pull requests run": ("deployment", "workflows: [training]", "workflows: [ci]"),
    "following a fork's run": ("deployment",
        " && github.event.workflow_run.head_repository.full_name == github.repository",
        ""),
    "no right to another run's artifact": ("deployment",
        "      actions: read           # the verdict of another run\n",
        ""),
    "no right to the address of the site": ("docs",
        "      pages: read             # the address at which the site will be\n",
        ""),
    "no concurrency of a job": ("deployment",
        "    concurrency:\n      group: deployment-production\n      cancel-in-progress: false\n",
        ""),
    "no timeout": ("docs", "    timeout-minutes: 10\n", ""),
    "no concurrency": ("training", "concurrency:\n  group: training\n  cancel-in-progress: false\n", ""),
    "cache in a release": ("release", '        with:\n          cache: "false"\n', ""),
    "unknown command": ("monitoring", "mlops-nb tower", "mlops-nb towers"),
    "unknown option": ("ci", "--json > training.json", "--jsn > training.json"),
    "unknown target": ("ci", "make portable", "make windows"),
    "script instead of a command": ("docs", "run: make docs", "run: make docs && cp -r _docs site"),
    "bad indentation": ("ci", "    steps:\n", "   steps:\n"),
    "expression that is not closed": ("ci", "${{ matrix.python }}", "${{ matrix.python }"),
    "unknown context": ("ci", "${{ matrix.python }}", "${{ matrx.python }}"),
    "unknown runner": ("ci", "windows-2025", "windows-1995"),
    "duplicate key": ("ci", "    timeout-minutes: 90\n", "    timeout-minutes: 90\n    timeout-minutes: 91\n"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_is_found(files, tmp_path, name):
    if name == "quotes left out" and not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    workflow, old, new, *count = MUTATIONS[name]
    shutil.copytree(files, tmp_path / "mutated")
    file = tmp_path / "mutated/.github/workflows" / f"{workflow}.yml"
    text = file.read_text()
    assert old in text, "the mutation has nothing to change"
    file.write_text(text.replace(old, new, *count))
    assert next(workflow_checks.problems(tmp_path / "mutated"), None), f"not found: {name}"
