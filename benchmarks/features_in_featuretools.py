"""Some features of the archive's catalogue by featuretools, in an environment of its own.

``python features_in_featuretools.py COUNTY AS_OF OUTPUT``, called by `features_scale`. One calculation
per window, as featuretools wants it; what was not known, or corrected, by then is taken out before,
which is not timed.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import featuretools as ft
import pandas as pd
from featuretools.primitives import Count, Sum

TABLES = ("medical_bill", "work", "shock", "visit")
FEATURES = {
    "365d": {
        "oop_medical_sum_365d": ("medical_bill", "out_of_pocket"),
        "shock_loss_sum_365d": ("shock", "loss"),
        "visits_count_365d": ("visit", None),
    },
    "92d": {"oop_sum_92d": ("medical_bill", "out_of_pocket")},
}


def read(county: Path, as_of: pd.Timestamp) -> ft.EntitySet:
    # Some households stand in no archive, but in a feed.
    parts = [pd.read_parquet(county / f"{name}.parquet") for name in ("household", *TABLES)]
    households = pd.concat([part[["household_id"]] for part in parts]).drop_duplicates()
    entities = ft.EntitySet("county")
    entities.add_dataframe(households, "households", index="household_id")
    for name in TABLES:
        rows = pd.read_parquet(county / f"{name}.parquet")
        for column in ("event_date", "known_date", "superseded_date"):
            rows[column] = pd.to_datetime(rows[column])
        current = rows["superseded_date"].isna() | (rows["superseded_date"] >= as_of)
        rows = rows[(rows["known_date"] < as_of) & current].reset_index(drop=True)
        entities.add_dataframe(
            rows, name, index=f"{name}_row", make_index=True, time_index="event_date"
        )
        entities.add_relationship("households", "household_id", name, "household_id")
    entities.add_last_time_indexes()
    return entities


def compute(entities: ft.EntitySet, as_of: pd.Timestamp) -> pd.DataFrame:
    parts = []
    for window, wanted in FEATURES.items():
        definitions, names = [], []
        for name, (table, column) in wanted.items():
            base = ft.IdentityFeature(entities[table].ww[column or f"{table}_row"])
            primitive = Count if column is None else Sum
            definitions.append(ft.AggregationFeature(base, "households", primitive=primitive))
            names.append(name)
        found = ft.calculate_feature_matrix(
            definitions,
            entities,
            cutoff_time=as_of,
            training_window=window,
            include_cutoff_time=False,
        )
        found.columns = names
        parts.append(found)
    return pd.concat(parts, axis=1)


def main() -> None:
    county, as_of, output = Path(sys.argv[1]), pd.Timestamp(sys.argv[2]), sys.argv[3]
    warnings.simplefilter("ignore")
    entities = read(county, as_of)
    began = time.perf_counter()
    found = compute(entities, as_of)
    seconds = time.perf_counter() - began
    found.drop(columns=["oop_sum_92d"]).astype(float).to_parquet(output)
    print(json.dumps({"featuretools_seconds": round(seconds, 2)}))


if __name__ == "__main__":
    main()
