"A host that was killed is started again by whoever watches, and by nobody where the endpoint was stopped"
import os
import signal
import subprocess
import sys

from mlops_nb.serving.endpoints import find_killed
from mlops_nb.serving.state import EndpointFolder

from tests.support.serving import Client, until


def test_watch_starts_a_killed_host_again(serving):
    for name in ("endpoint", "deployment"):
        text = (serving.root / f"{name}.yml").read_text().replace("name: echo", "name: watched")
        (serving.root / f"watched-{name}.yml").write_text(text)
    serving.deploy(serving.root / "watched-endpoint.yml", serving.root / "watched-deployment.yml")
    folder, call = EndpointFolder(serving.root, "watched"), Client(serving, "watched")
    assert (before := folder.host.pid) and find_killed(serving.root) == []
    os.kill(before, signal.SIGKILL)
    until(lambda: find_killed(serving.root) == ["watched"])
    with folder.lock("deploy"): assert find_killed(serving.root) == [], "another command is at it"
    words = [sys.executable, "-m", "mlops_nb", "watch", "--every", "0.1", "--no-tower"]
    watch = subprocess.Popen(words, cwd=serving.root, stdout=subprocess.PIPE, text=True)
    try: until(lambda: folder.host.pid and serving.show("watched").deployments["blue"].state == "Ready", seconds=120)
    finally:
        watch.send_signal(signal.SIGTERM)
        said = watch.communicate()[0]
    assert "endpoint watched: its host was killed; it is started again" in said
    assert folder.host.pid != before and call([{"p": 0.5}])[0] == 200
    serving.stop("watched")
    assert find_killed(serving.root) == [] and not folder.host.pid
