"Stage notebooks made of text"
import json
from pathlib import Path


def code(source: str, *tags: str) -> dict:
    "A code cell"
    return dict(cell_type="code", metadata={"tags": [*tags]} if tags else {}, source=source, outputs=[],
                execution_count=None)


def text(source: str) -> dict:
    "A markdown cell"
    return dict(cell_type="markdown", metadata={}, source=source)


def write_notebook(path: Path, *cells: dict) -> Path:
    "A notebook file of these cells"
    path.parent.mkdir(parents=True, exist_ok=True)
    numbered = [dict(c, id=f"c{i}") for i, c in enumerate(cells)]
    path.write_text(json.dumps(dict(nbformat=4, nbformat_minor=5, metadata={}, cells=numbered), indent=1),
                    encoding="utf-8")
    return path


def stage_cells(parameters: str, *job: str, above: tuple[str, ...] = ()) -> list[dict]:
    "A stage: library cells, the heading, the parameters, the cells of the job"
    library = [code(s) for s in above]
    return [text("# Stage\n\n> A stage for a test"), *library, text("## Run"), code(parameters, "parameters"),
            *map(code, job)]
