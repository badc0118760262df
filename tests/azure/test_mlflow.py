"azureml-mlflow, unmodified, on the loopback Azure: the portable subset works, what Azure lacks is lacking"
import pytest

from tests.support.azure.clients import sdk

pytestmark = pytest.mark.long

SCRIPT = """
import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
mlflow.set_tracking_uri(client.workspaces.get("dev").mlflow_tracking_uri)
mlflow.set_experiment("flights")
pathlib = __import__("pathlib")
pathlib.Path("model").mkdir()
pathlib.Path("model/MLmodel").write_text("flavors: {}")
with mlflow.start_run() as run:
    mlflow.log_param("depth", 3)
    mlflow.log_metric("loss", 0.5, step=1)
    mlflow.log_artifacts("model", "model")
    files = get_artifact_repository(run.info.artifact_uri, tracking_uri=mlflow.get_tracking_uri())
    said = {"artifacts": sorted(one.path for one in files.list_artifacts("model"))}
    try: mlflow.log_artifacts("model", "model")
    except Exception as error: said["twice"] = str(error)
    try: mlflow.MlflowClient().create_logged_model(run.info.experiment_id, "m")
    except MlflowException as error: said["logged model"] = str(error)
registry = mlflow.MlflowClient()
registry.create_registered_model("flight-delay")
made = registry.create_model_version("flight-delay", f"{run.info.artifact_uri}/model", run.info.run_id)
registry.set_model_version_tag("flight-delay", made.version, "status", "champion")
said |= {"loss": mlflow.get_run(run.info.run_id).data.metrics["loss"], "version": made.version,
         "back": pathlib.Path(files.download_artifacts("model/MLmodel")).read_text(),
         "tags": registry.get_model_version("flight-delay", made.version).tags,
         "asset": client.models.get("flight-delay", version="1").type}
tell(said)
"""


def test_the_portable_subset_works_and_the_rest_is_refused(azure, tmp_path):
    said = sdk(azure, SCRIPT, tmp_path)
    assert said["artifacts"] == ["model/MLmodel"] and said["loss"] == 0.5 and said["version"] == "1"
    assert said["back"] == "flavors: {}"
    assert "already exists" in said["twice"] and "does not exist" in said["logged model"]
    assert said["tags"] == {"status": "champion"} and said["asset"] == "mlflow_model"
