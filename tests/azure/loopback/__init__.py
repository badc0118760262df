"""A loopback Azure: what the unmodified azure-ai-ml and azureml-mlflow see when they talk to Azure, on this machine.

A process that has the variables of `Bench.env` in its environment reaches this Azure and no other host: they name a proxy and a
throw-away certificate authority. Behind the proxy:

    management.azure.com               arm.py, workspaces.py, assets.py, jobs.py ...   resources with state, as strict as the specification
    login.microsoftonline.com          tokens.py                                       tokens that decode, expire and are checked
    *.api.azureml.ms                   dataplane.py                                    discovery, run history, MLflow, artifacts
    *.blob.core.windows.net            storage.py                                      Azurite: real signatures, real blobs
    anything else                      refused, and the test fails

What is submitted runs: `rebuild.py` makes files of the REST bodies and of the uploaded blobs, and of nothing else, and `jobs.py` runs
them with the local workspace, in a Python in which this project is not installed. A missing file or a wrong binding fails here as there.

In a test, take the fixture `azure` (fixture.py):

    def test_submits(azure):
        done = subprocess.run([...], env={**os.environ, **azure.env})
        assert azure.state.all("workspaces/jobs")

`azure.workspace("dev")` and `azure.workspace("production")` give the keys of settings.ini. `azure.calls` lists the requests, `azure.fail(...)`
makes some of them go wrong, `azure.report()` is the table of what was called. On a shell: `eval "$(python tests/azure/serve.py --background)"`.
"""
