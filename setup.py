"Carries the files that every project shares with the example into the package; all else is in pyproject.toml"
import ast
from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
TEMPLATE = "mlops_nb/scaffold/template.py"


def shared_patterns() -> tuple[str, ...]:
    "Read `SHARED` of the template without importing the package, which is not installed yet"
    for node in ast.parse((ROOT / TEMPLATE).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SHARED":
            return ast.literal_eval(node.value)
    raise SystemExit(f"{TEMPLATE} has no SHARED")


class BuildWithShared(build_py):
    "Copies them; an editable installation reads them where they are"
    def run(self):
        super().run()
        if self.editable_mode: return
        for path in (path for pattern in shared_patterns() for path in ROOT.glob(pattern)):
            copy = Path(self.build_lib, "mlops_nb/scaffold/templates/shared", path.relative_to(ROOT))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copyfile(path, copy)


setup(cmdclass={"build_py": BuildWithShared})
