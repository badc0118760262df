"The tables of Azure's schema: `azure.json` is what the installed azure-ai-ml says"
import logging

import pytest

from mlops_nb.schemas import tables
from mlops_nb.schemas.tables import azure_tables, read_sdk

pytest.importorskip("azure.ai.ml", reason="the tables can be compared only where azure-ai-ml is installed")
from mlops_nb.azure.sdk import read_schema


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def differences(written: dict, installed: dict) -> list[str]:
    "What `make schemas` would change, the version itself left out"
    zones = [f"time zone {zone}" for zone in {*written["time_zones"]} ^ {*installed["time_zones"]}]
    return zones + [f"{path}.{key}: {keys.get(key)} -> {installed['schemas'][path].get(key)}"
                    for path, keys in written["schemas"].items() for key in sorted({*keys, *installed["schemas"][path]})
                    if keys.get(key) != installed["schemas"][path].get(key)]


def test_the_file_is_what_the_installed_sdk_says():
    assert differences(azure_tables(), read_sdk(read_schema)) == [], "run make schemas, and look at the difference"


def test_a_new_key_and_a_new_word_of_the_sdk_are_found():
    def changed(path):
        keys = read_schema(path)
        if path.endswith(".CommandJobLimitsSchema"): keys["retries"] = "whole"
        if path.endswith(".QueueSettingsSchema"): keys["priority"] += "|urgent"
        return keys
    found = differences(azure_tables(), read_sdk(changed))
    assert [text.partition(":")[0].rpartition(".")[2] for text in found] == ["retries", "priority"]


def test_to_regenerate_changes_nothing(monkeypatch, tmp_path):
    written = tables.DATA.read_text(encoding="utf-8")
    monkeypatch.setattr(tables, "DATA", tmp_path/"azure.json")
    (tmp_path/"azure.json").write_text(written, encoding="utf-8")
    tables.update(read_schema)
    assert (tmp_path/"azure.json").read_text(encoding="utf-8") == written
    tables.azure_tables.cache_clear()
    tables.schemas_by_name.cache_clear()
