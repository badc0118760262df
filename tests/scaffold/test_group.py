"`mlops-nb new --group`: rows of one customer stay together, in the split, in the gate and on the card"
import json

import numpy as np
import pandas as pd
import pytest

from tests.support.projects import command


def orders(path, customers=160, each=15):
    "Orders of customers, who differ in how much they return, and are numbered"
    rng = np.random.default_rng(0)
    customer = np.repeat(np.arange(customers), each)
    price = rng.gamma(3, 20, len(customer))
    odds = 1.5 * rng.normal(size=customers)[customer] + (price - 60) / 15
    table = pd.DataFrame({"customer": customer + 1000, "price": price.round(2),
                          "channel": rng.choice(["shop", "web"], len(customer)),
                          "returned": np.where(rng.random(len(customer)) < 1 / (1 + np.exp(-odds)), "yes", "no")})
    table.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    said = command("new", "shop", "--package", "shop", "--data", orders(folder / "orders.csv"), "--target", "returned",
                   "--group", "customer", cwd=folder).stdout
    return folder / "shop", said


def test_new_says_and_records_the_group(shop):
    project, said = shop
    assert "splits at random by customer: the rows of one stay on one side" in said
    assert "left out: customer is the group" in said and "see the warning" not in said
    ingest = json.loads((project / "nbs/training/01_ingest.ipynb").read_text())
    assert any("GROUP, GROUP_KIND = 'customer', 'number'" in "".join(cell["source"]) for cell in ingest["cells"])
    assert "nothing is stale" in command("check", cwd=project).stdout


def test_no_customer_is_on_two_sides_and_the_gate_draws_customers(shop):
    project, _ = shop
    job = json.loads(command("run", "pipelines/training/pipeline.yml", "--json", cwd=project).stdout)
    folders = {name: folder for step in job["steps"] for name, folder in (step.get("outputs") or {}).items()}
    parts = {name: pd.read_parquet(f"{folders['prepared']}/{name}.parquet") for name in ("train", "validation", "test")}
    sides = {name: {*part.customer} for name, part in parts.items()}
    assert sum(map(len, sides.values())) == len(set.union(*sides.values())) == 160
    roles = json.loads(open(f"{folders['prepared']}/columns.json").read())
    assert roles["group"] == "customer" and "customer" not in roles["numeric"] + roles["categorical"]

    judged, count = pd.read_parquet(f"{folders['evaluation']}/losses.parquet"), len(sides["test"])
    assert {*judged.gate_day} == sides["test"]
    verdict = json.loads(open(f"{folders['decision']}/verdict.json").read())
    assert verdict["accepted"], verdict["reason"]
    assert f"; judged on {count} values of customer;" in verdict["reason"]
    card = open(f"{folders['decision']}/model_card.md").read()
    assert f"rows of {count} values of customer that neither has seen" in card
    assert "split at random by `customer`" in card and "from blocks of values of customer" in card


@pytest.mark.parametrize("options, message", [
    (["--group", "price", "--time", "price"], "one of the two"),
    (["--group", "channel"], "the group column channel has 2 values"),
    (["--group", "buyer"], "--group buyer: there is no such column"),
    (["--group", "returned"], "returned is the target"),
])
def test_a_group_that_is_none_is_refused(tmp_path, options, message):
    data = orders(tmp_path / "orders.csv", customers=50, each=5)
    found = command("new", "p", "--package", "plain", "--data", data, "--target", "returned", *options, cwd=tmp_path,
                    code=2)
    assert message in found.stderr and not (tmp_path / "p").exists()


def test_rows_without_a_group_are_refused_with_their_numbers(tmp_path):
    table = pd.read_csv(orders(tmp_path / "orders.csv", customers=50, each=5))
    table.loc[3, "customer"] = np.nan
    table.to_csv(tmp_path / "orders.csv", index=False)
    found = command("new", "p", "--package", "plain", "--data", tmp_path / "orders.csv", "--target", "returned",
                    "--group", "customer", cwd=tmp_path, code=2)
    assert "customer is empty in 1 of 250 rows: 4" in found.stderr
