"""What the docs site of this repository costs to build: from nothing, with one changed page, with no change, beside
Zensical alone, which makes the same pages with its own formatter of code"""
import json
import shutil
import subprocess

from harness import HOME, PYTHON, ROOT, Result, rounds, spawn, versions

COMMAND = [PYTHON.with_name("mlops-nb"), "docs", "--json"]
PAGE = "nbs/docs/start.ipynb"
ALONE = "Zensical alone"
FENCES = 'project.markdown_extensions."pymdownx.superfences"'


def make_copy():
    "The files of the repository that git has, in a folder of their own: nothing has run there"
    root = HOME/"work"/"docs"
    shutil.rmtree(root, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (root/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT/name, root/name)
    return root


def main():
    root = make_copy()
    environment = {"PYTHONPATH": str(root)}

    def build():
        return spawn(COMMAND, cwd=root, env=environment, timeout=1800)

    def from_nothing():
        for name in ("_docs", ".mlops"): shutil.rmtree(root/name, ignore_errors=True)
        return build()

    def one_changed():
        notebook = json.loads((root/PAGE).read_text())
        notebook["cells"].append({"cell_type": "markdown", "id": f"a{len(notebook['cells'])}", "metadata": {},
                                  "source": "One more sentence."})
        (root/PAGE).write_text(json.dumps(notebook))
        return build()

    def zensical_alone():
        "A copy of the pages that the last build has left, in a folder with a cache of its own"
        site, alone = root/".mlops"/"site", root.with_name("zensical")
        shutil.rmtree(alone, ignore_errors=True)
        for part in ("docs", "theme"): shutil.copytree(site/part, alone/part)
        plain, formatter, _ = (site/"zensical.toml").read_text().partition(f"[[{FENCES}.custom_fences]]")
        assert formatter, "the formatter is named in zensical.toml"
        (alone/"zensical.toml").write_text(f"{plain}[{FENCES}]\n")
        return spawn([PYTHON, "-m", "zensical", "build", "--clean"], cwd=alone, timeout=1800)

    result = Result("docs", "The docs site of this repository, built without a network", baseline=ALONE,
                    versions=versions(PYTHON, "mlops-nb", "nbdev", "zensical"))
    result.add(rounds({"from nothing": from_nothing, ALONE: zensical_alone, "one changed page": one_changed,
                       "no change": build}, count=3, warm=False))
    pages = len([*(root/"_docs").rglob("*.html")])
    result.notes += [f"{pages} pages, from {len([*(root/'nbs').rglob('*.ipynb')])} notebooks.",
                     "Zensical alone has no notebooks to prepare, no links to check, and a lexer to look up for each "
                     "block of code."]
    rows = result.rows
    result.target("wall time from nothing", rows["from nothing"]["wall"]["median"], 60, " s")
    result.target("wall time of one changed page", rows["one changed page"]["wall"]["median"], 5, " s")
    result.target("CPU from nothing", rows["from nothing"]["cpu"]["median"], 25, " s")
    result.target("CPU of one changed page", rows["one changed page"]["cpu"]["median"], 5, " s")
    result.write()


if __name__ == "__main__": main()
