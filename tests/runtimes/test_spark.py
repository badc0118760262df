"Spark steps: the files of Azure become commands for spark-submit, and what is missing on this machine is said"
from pathlib import Path

import pytest

from mlops_nb.errors import UserError
from mlops_nb.jobs.graph import read_job
from mlops_nb.runtimes import spark
from mlops_nb.schemas.components import Files
from mlops_nb.schemas.documents import load

JOB = """$schema: https://azuremlschemas.azureedge.net/latest/sparkJob.schema.json
type: spark
code: ./src
entry: {file: go.py}
conf: {spark.executor.memory: 1g, spark.dynamicAllocation.enabled: True, spark.app.name: two words}
py_files: [a.zip, b.py]
jars: [x.jar]
inputs:
  data: {type: uri_file, path: data.csv, mode: direct}
outputs:
  made: {type: uri_folder}
args: >-
  --data ${{inputs.data}} --made ${{outputs.made}}
resources: {instance_type: standard_e4s_v3, runtime_version: "3.4"}
"""

SCRIPT = """import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
table = spark.read.csv(sys.argv[2], header=True, inferSchema=True)
open(sys.argv[4] + "/sum.txt", "w").write(str(table.agg({"n": "sum"}).first()[0]))
"""


def write(folder: Path, job: str = JOB) -> Path:
    (folder/"src").mkdir()
    (folder/"src/go.py").write_text(SCRIPT)
    (folder/"data.csv").write_text("n\n1\n41\n")
    (folder/"settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n")
    (folder/"job.yml").write_text(job)
    return folder/"job.yml"


def test_a_spark_job_is_the_command_that_submits_it(tmp_path):
    job = load(write(tmp_path))
    spark.make_commands(job)
    assert job["type"] == "command" and "commandJob" in job["$schema"] and not {"entry", "args", "conf"} & job.keys()
    assert job["command"] == (
        "spark-submit --master 'local[*]' --conf spark.executor.memory=1g --conf spark.dynamicAllocation.enabled=true "
        "--conf 'spark.app.name=two words' --py-files a.zip,b.py --jars x.jar go.py "
        "--data ${{inputs.data}} --made ${{outputs.made}}")


def test_nodes_of_pipelines_and_their_components_too():
    node, other = {"type": "spark", "component": "./go.yml", "conf": {"a": 1}, "inputs": {}}, {"type": "automl"}
    inline = {"type": "spark", "component": {"type": "spark", "entry": {"file": "a.jar", "class_name": "Main"}}}
    spark.make_commands({"type": "pipeline", "jobs": {"a": node, "b": inline, "c": other}})
    assert node == {"type": "command", "component": "./go.yml", "inputs": {}} and other == {"type": "automl"}
    assert inline["component"]["command"] == "spark-submit --master 'local[*]' --class Main a.jar"


COMPONENT = """type: spark
name: go
code: ./src
entry: {file: go.py}
conf: {spark.executor.memory: 1g, spark.driver.cores: 1, spark.app.name: theirs}
"""
PIPELINE = """type: pipeline
jobs:
  go: {type: spark, component: ./go.yml, conf: CONF}
"""


@pytest.mark.parametrize("conf, said", [
    ("{spark.executor.memory: 4g}",
     "--conf spark.executor.memory=4g --conf spark.driver.cores=1 --conf spark.app.name=theirs"),
    ("{spark.app.name: ours}",
     "--conf spark.executor.memory=1g --conf spark.driver.cores=1 --conf spark.app.name=ours"),
    ("{spark.sql.ansi.enabled: True, spark.driver.cores: 2}",
     "--conf spark.executor.memory=1g --conf spark.driver.cores=2 --conf spark.sql.ansi.enabled=true"),
    ("{}", "--conf spark.executor.memory=1g --conf spark.driver.cores=1 --conf spark.app.name=theirs"),
])
def test_the_conf_of_a_node_comes_before_its_components(tmp_path, conf, said):
    write(tmp_path, PIPELINE.replace("CONF", conf))
    (tmp_path/"go.yml").write_text(COMPONENT)
    job = read_job(tmp_path/"job.yml", files=Files(adapt=spark.make_commands))
    assert job.steps["go"].component.spec["command"] == f"spark-submit --master 'local[*]' {said} go.py"


@pytest.mark.parametrize("old, new, said", [("entry: {file: go.py}", "entry: {}", "job.yml:4: entry is {}"),
                                            ("jars: [x.jar]", "jars: x.jar", "job.yml:7: jars is 'x.jar'")])
def test_a_mistake_is_named_with_its_line(tmp_path, old, new, said):
    with pytest.raises(UserError, match=said): spark.make_commands(load(write(tmp_path, JOB.replace(old, new))))


def test_what_is_missing_is_said_before_anything_runs(tmp_path, monkeypatch):
    from mlops_nb.jobs.run import run_file
    monkeypatch.setattr(spark, "which", lambda name, path=None: None)
    with pytest.raises(UserError, match=r"(?s)needs PySpark.*mlops-nb\[spark\]"): run_file(write(tmp_path), {})
    assert not [*(tmp_path/".mlops/jobs").glob("*")]
    monkeypatch.setattr(spark, "which", lambda name, path=None: None if name == "java" else name)
    with pytest.raises(UserError, match="(?s)Spark needs Java.*openjdk-17"): run_file(tmp_path/"job.yml", {})


def test_it_runs_where_spark_is(tmp_path, capsys):
    pytest.importorskip("pyspark", reason="needs the extra spark")
    if not spark.find_java(): pytest.skip("needs Java")
    from mlops_nb.jobs.run import run_file
    job = JOB.replace("py_files: [a.zip, b.py]\n", "").replace("jars: [x.jar]\n", "")
    assert run_file(write(tmp_path, job), {}) == 0, capsys.readouterr().out
    assert [path.read_text() for path in tmp_path.rglob("sum.txt")] == ["42"]
