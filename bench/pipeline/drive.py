"""The five stages as one tool runs them; started in that tool's own environment: python drive.py papermill FOLDER"""
import inspect
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = {
    "ingest": "table.csv",
    "prepare": "prepared.pkl",
    "train": "model.pkl",
    "evaluate": "evaluation.json",
    "report": "report.txt",
}
NAMES = list(OUT)
# which stage makes an input
FROM = {"table": "ingest", "prepared": "prepare", "model": "train", "evaluation": "evaluate"}


def stages():
    sys.path.insert(0, str(HERE))
    import stages as module
    return [getattr(module, name) for name in NAMES]


def paths(stage): return {name: OUT[FROM.get(name, stage.__name__)] for name in inspect.signature(stage).parameters}


def plain(*names):
    for stage in stages():
        if not names or stage.__name__ in names: stage(**paths(stage))


def processes():
    for name in NAMES: subprocess.run([sys.executable, __file__, "plain", ".", name], check=True)


def papermill_cli():
    for name in NAMES:
        subprocess.run(
            [
                Path(sys.executable).with_name("papermill"),
                f"{name}.ipynb",
                f"{name}.out.ipynb",
                "--no-progress-bar",
                "-k",
                "python3",
            ],
            check=True,
        )


def papermill():
    from papermill import execute_notebook
    for name in NAMES: execute_notebook(f"{name}.ipynb", f"{name}.out.ipynb", progress_bar=False, kernel_name="python3")


def nbclient():
    import nbformat
    from nbclient import NotebookClient
    for name in NAMES:
        notebook = nbformat.read(f"{name}.ipynb", 4)
        NotebookClient(notebook, kernel_name="python3").execute()
        nbformat.write(notebook, f"{name}.out.ipynb")


def execnb():
    from execnb.shell import CaptureShell
    for name in NAMES: CaptureShell().execute(f"{name}.ipynb", dest=f"{name}.out.ipynb", exc_stop=True)


def ploomber(executor="papermill"):
    from ploomber import DAG
    from ploomber.executors import Serial
    from ploomber.products import File
    from ploomber.tasks import NotebookRunner
    dag, last = DAG(executor=Serial(build_in_subprocess=False)), None
    for name in NAMES:
        task = NotebookRunner(
            Path(f"{name}.ploomber.ipynb"),
            File(f"{name}.out.ipynb"),
            dag,
            name=name,
            kernelspec_name="python3",
            static_analysis="disable",
            executor=executor,
            **({"papermill_params": {"progress_bar": False}} if executor == "papermill" else {}),
        )
        if last: last >> task
        last = task
    dag.build(force=True, show_progress=False)


def ploomber_engine(): ploomber("ploomber-engine")


def prefect():
    from papermill import execute_notebook
    from prefect import flow, task

    @task
    def run(name, after):
        execute_notebook(f"{name}.ipynb", f"{name}.out.ipynb", progress_bar=False, kernel_name="python3")

    @flow
    def five():
        after = None
        for name in NAMES: after = run(name, after)

    five()


def dagster_job():
    from dagster import In, fs_io_manager, job
    from dagstermill import ConfigurableLocalOutputNotebookIOManager, define_dagstermill_op
    ops = [
        define_dagstermill_op(
            f"run_{name}",
            str(Path(f"{name}.dagstermill.ipynb").absolute()),
            output_notebook_name=f"{name}_notebook",
            ins={"after": In()} if name != NAMES[0] else None,
        )
        for name in NAMES
    ]

    @job(
        resource_defs={
            "output_notebook_io_manager": ConfigurableLocalOutputNotebookIOManager(),
            "io_manager": fs_io_manager,
        }
    )
    def five():
        after = ops[0]()
        for op in ops[1:]: after = op(after)

    return five


def dagstermill():
    from dagster import DagsterInstance, execute_job, reconstructable
    with DagsterInstance.local_temp() as instance:
        assert execute_job(
            reconstructable(dagster_job), instance, run_config={"execution": {"config": {"in_process": {}}}}
        ).success


def kedro():
    from kedro.io import DataCatalog, MemoryDataset
    from kedro.pipeline import Pipeline, node
    from kedro.runner import SequentialRunner

    def wrap(stage):
        def run(*before):
            stage(**paths(stage))
            return stage.__name__
        return node(run, NAMES[:NAMES.index(stage.__name__)][-1:] or None, stage.__name__, name=f"run_{stage.__name__}")

    SequentialRunner().run(
        Pipeline([wrap(stage) for stage in stages()]), DataCatalog({name: MemoryDataset() for name in NAMES})
    )


def zenml():
    from zenml import pipeline, step

    def wrap(stage):
        def run(before: str) -> str:
            stage(**paths(stage))
            return stage.__name__
        run.__name__ = run.__qualname__ = f"run_{stage.__name__}"
        globals()[run.__name__] = made = step(run, enable_cache=False)  # where ZenML looks for it
        return made

    steps = [wrap(stage) for stage in stages()]

    @pipeline(enable_cache=False)
    def five():
        before = "start"
        for one in steps: before = one(before)

    five()


if __name__ == "__main__":
    os.chdir(sys.argv[2])
    globals()[sys.argv[1]](*sys.argv[3:])
