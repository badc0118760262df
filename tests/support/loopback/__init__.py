"""A loopback Azure: what the unmodified azure-ai-ml and azureml-mlflow see when they talk to Azure, on this machine.

A process that has the variables of `Bench.env` in its environment reaches this Azure and no other host: they name a
proxy and a throw-away certificate authority. Behind the proxy:

    management.azure.com               arm.py, workspaces.py, assets.py, jobs.py,      resources with state, in
    ARM's manners: operations that take a
                                       endpoints.py, batch.py, registries.py,          while, enum values in ARM's
                                       case, soft deletion, names taken governance.py, measures.py
    login.microsoftonline.com          tokens.py                                       tokens that decode, expire
    and are checked *.api.azureml.ms                   dataplane.py, history.py, tracking.py           discovery,
    run history, MLflow without what Azure lacks, artifacts *.inference.ml.azure.com           endpoints.py,
    collector.py                      deployments, served by the local endpoint host; what their scripts collect
    *.blob.core.windows.net            storage.py                                      Azurite: real signatures,
    real blobs azuremlschemasprod.azureedge.net   nothing is there: the SDK does without anything else
    refused, and the test fails

What is submitted runs: `rebuild.py` makes files of the REST bodies and of the uploaded blobs, and of nothing else,
and `jobs.py` runs them with the local workspace, in a Python in which this project is not installed. A missing file
or a wrong binding fails here as there.

In a test, take the fixture `azure` (fixture.py):

    def test_submits(azure):
        done = subprocess.run([...], env={**os.environ, **azure.env})
        assert azure.state.all("workspaces/jobs")

`azure.workspace("dev")` and `azure.workspace("production")` give the keys of settings.ini. `azure.calls` lists the
requests and `azure.report()` is their table. Things go wrong on demand: `azure.fail("PUT .*/jobs/", status=503,
times=2)`, `azure.fail("PUT .*blob", cut=1000)` hangs up in the middle, `azure.hold("name")` keeps a job from
starting, `azure.unhealthy("deployments/blue")`, `azure.tokens.expire()`. With `azure.portable = True` steps track
through azureml-mlflow over HTTPS, otherwise straight into the store behind it, which is quicker. Azure Monitor
tells of a minute when it has passed for two more; after `azure.clock.hurry(60)` measures and collected data have a
clock by which a minute is a second, and `azure.clock.code` gives a client the same clock.

`azure.trigger("dev", "weekly")` starts what a schedule starts, a job or a monitor; `azure.events` holds what Event
Grid delivers of monitors.

With `AZURE_REST_API_SPECS` naming a checkout of Azure's public specifications, each request to management.azure.com
and each answer is checked against them (contract.py, swagger.py), and what they do not allow fails the test;
`ALLOWED` in contract.py lists the known defects of the SDK. A version of the API that the checkout lacks is checked
against the newest older one, and the table says so. `LOOPBACK_REPORT=FILE` keeps the table of a whole session.

On a shell: `eval "$(python -m tests.support.azure.serve --background)"`, and `kill $LOOPBACK_PID` in the end.

What it does not do: Spark and AutoML do not run; monitors are computed by the project's local monitor, without
Spark; deployments without a scoring script are refused; a scoring script sees the project's own package even where
it was not uploaded; nothing bills, and no quota is used up.
"""
