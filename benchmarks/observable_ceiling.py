"""How near the model comes to what can be known from recorded features at all.

Run with ``python benchmarks/observable_ceiling.py``; the figures are printed and kept in ``results/``.
The truth of a simulated household includes what nobody records, so no model reaches it. The ceiling
is an oracle: a regression of the true risk on the same features, learned from counties of other seeds
on the test date. It knows what no office knows (true risks, of many counties), and nothing that is not
recorded. Being learned, it lies below the ceiling by what more counties would add: it is told for half
of them, too. The default model learns from its own county's past, and once from the pasts of all test
counties together, as an office above them could. Simulated counties are kept in the temporary folder,
so that a killed run goes on.

Average precision on some hundreds of outcomes is noisy. The expected one replaces each outcome by
its true risk: the ranking is the model's, only the luck of the draw is left out.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measuring import peak_memory_gb, run_fresh, run_script

CONFIG = Path(__file__).parents[1] / "configs" / "default.yaml"
AS_OF = pd.Timestamp("2023-10-01")
FIRST_ORACLE = 100
"""Seeds from here on are those of the oracle's counties; test counties have 0, 1, ..."""

REPLICATES, RESAMPLES = 100, 500


def simulate(seed: str, households: str, path: str) -> dict[str, Any]:
    """Features, labels and true risks of a county: on the test date, for a test county before it too."""
    import poverty_risk as pr
    from poverty_risk.config import load_config

    county = pr.make_household_history(int(households), seed=int(seed))
    test = int(seed) < FIRST_ORACLE
    dates = [*(load_config(CONFIG).periods.train.dates() if test else []), AS_OF]
    points = pr.build_prediction_points(county.tables, dates)
    labels = pr.label_returns(county.tables, points, "12mo", "identified").dropna()
    points = points.loc[labels.index]
    last = points.index.get_level_values("as_of_date") == AS_OF
    true = county.true_risk(points[last], "12mo", replicates=REPLICATES if test else 20)
    table = pr.build_features(county.tables, points, pr.load_catalog("archive"))
    table["label"], table["village_id"] = labels, points["village_id"]
    table["true_risk"] = true["true_risk"].reindex(table.index)
    table.to_parquet(path)
    return {"points": len(table), "peak_memory_gb": round(peak_memory_gb(), 2)}


def judge(households: str, counties: str, tests: str, folder: str) -> dict[str, Any]:
    """The oracle from its counties; each test county's models, logistic regression and oracle."""
    import poverty_risk as pr

    names = list(pr.load_catalog("archive").model_names)
    parts = [read(folder, households, FIRST_ORACLE + n) for n in range(int(counties))]
    oracles = {
        "ceiling": learn_oracle(parts, names),
        "ceiling_from_half": learn_oracle(parts[: len(parts) // 2], names),
    }
    del parts
    pasts = [divide(read(folder, households, seed))[0] for seed in range(int(tests))]
    model = fit_model(pd.concat(pasts), names)
    del pasts
    oracles["model_of_all"] = lambda rows: model.risk(rows[names]).to_numpy()
    found = [judge_county(oracles, names, folder, households, seed) for seed in range(int(tests))]
    pooled = {
        name: round(float(np.mean([one["share_of_ceiling"][name][0] for one in found])), 3)
        for name in found[0]["share_of_ceiling"]
    }
    return {
        "counties": found,
        "mean_share_of_ceiling": pooled,
        "peak_memory_gb": round(peak_memory_gb(), 2),
    }


def read(folder: str, households: str, seed: int) -> pd.DataFrame:
    """A simulated county; its ids get the seed, because all counties have the same ones."""
    table = pd.read_parquet(Path(folder) / f"{households}_{seed}.parquet")
    named = [f"{seed}/{name}" for name in table.index.levels[0]]
    table.index = table.index.set_levels(named, level="household_id")
    table["village_id"] = f"{seed}/" + table["village_id"]
    return table


def divide(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is learned from, and the test date."""
    last = table.index.get_level_values("as_of_date") == AS_OF
    return table[~last], table[last]


def learn_oracle(parts: list[pd.DataFrame], names: list[str]) -> Any:
    """Trees of the true risk on recorded features; the last county tells how many."""
    import lightgbm

    from poverty_risk.model_columns import ModelColumns

    columns = ModelColumns.of(pd.concat(parts)[names], names)
    sets = []
    for rows in (pd.concat(parts[:-1]), parts[-1]):
        rows = rows[rows["true_risk"].notna()]
        sets.append(
            lightgbm.Dataset(
                columns.matrix(rows[names]),
                label=rows["true_risk"].to_numpy(),
                categorical_feature=list(columns.categorical),
                reference=sets[0] if sets else None,
                params={"verbosity": -1},
            )
        )
    settings = {
        "objective": "cross_entropy",
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": 50,
        "feature_fraction": 0.3,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "num_threads": 2,
        "verbosity": -1,
        "seed": 0,
    }
    stop = lightgbm.early_stopping(30, verbose=False)
    booster = lightgbm.train(settings, sets[0], 1000, valid_sets=[sets[1]], callbacks=[stop])
    return lambda rows: np.asarray(booster.predict(columns.matrix(rows[names])))


def judge_county(
    oracles: dict[str, Any], names: list[str], folder: str, households: str, seed: int
) -> dict[str, Any]:
    """Average precisions of a test county, and the shares of the ceiling with intervals."""
    train, test = divide(read(folder, households, seed))
    model = fit_model(train, names)
    logistic = fit_logistic(train, names)
    risks = {
        "model": model.risk(test[names]).to_numpy(),
        "logistic": logistic.predict_proba(test[names])[:, 1],
    }
    risks |= {name: oracle(test) for name, oracle in oracles.items()}
    risks["truth"] = test["true_risk"].to_numpy()
    kinds = {"outcomes": test["label"], "expected": test["true_risk"]}
    precisions, shares = {}, {}
    for kind, label in kinds.items():
        drawn = resample(label.to_numpy(), risks, test["village_id"], kind == "expected")
        once = {name: float(values[0]) for name, values in drawn.items()}
        # The truth's own noise would rank itself: only outcomes judge it.
        shown = {k: round(v, 4) for k, v in once.items() if k != "truth" or kind == "outcomes"}
        precisions[kind] = shown
        for name in ("model", "model_of_all", "logistic", "ceiling_from_half"):
            ends = np.quantile(drawn[name][1:] / drawn["ceiling"][1:], [0.025, 0.975])
            share = [once[name] / once["ceiling"], *ends]
            shares[f"{name}_{kind}"] = [round(float(value), 3) for value in share]
    return {
        "seed": seed,
        "points": len(test),
        "outcomes": int(test["label"].sum()),
        "average_precision": precisions,
        "share_of_ceiling": shares,
    }


def fit_model(train: pd.DataFrame, names: list[str]) -> Any:
    """The default model."""
    import poverty_risk as pr
    from poverty_risk.config import load_config

    config = load_config(CONFIG)
    task = pr.PredictionTask(pr.load_schema("archive"), "at_risk", "identified", "12mo")
    # What costs time and does not change the order: checks of reasons, and folds to calibrate by.
    settings = config.model.model_dump() | {"n_refits": 0, "n_folds": 2}
    model = pr.RiskModel(pr.load_catalog("archive"), task, seed=config.seed, **settings)
    return model.fit(train[names], train["label"], groups=train["village_id"])


def fit_logistic(train: pd.DataFrame, names: list[str]) -> Any:
    """Logistic regression as the office's config has it."""
    import poverty_risk as pr
    from poverty_risk.config import load_config

    strength = load_config(CONFIG).baselines.logistic_c
    return pr.LogisticBaseline(C=strength).fit(train[names], train["label"])


def resample(
    label: np.ndarray, risks: dict[str, np.ndarray], villages: pd.Series, expected: bool
) -> dict[str, np.ndarray]:
    """Average precision by name: of all points first, then of each resample of villages."""
    from poverty_risk.bootstrap import iter_resamples

    codes = pd.factorize(villages)[0]
    weightings = [np.ones((1, len(label))), *iter_resamples(codes, RESAMPLES, 0)]
    found = {}
    for name, risk in risks.items():
        order = np.argsort(-risk, kind="stable")
        parts = [average_precision(label[order], w[:, order], expected) for w in weightings]
        found[name] = np.concatenate(parts)
    return found


def average_precision(label: np.ndarray, weights: np.ndarray, expected: bool) -> np.ndarray:
    """Mean over outcomes of the precision down to each, from the top; of chances its expectation.

    A household that has the outcome counts as one in its own precision, whatever its chance was.
    """
    above = np.cumsum(weights * label, axis=1)
    own = weights * (1.0 - label) if expected else 0.0
    from_top = np.cumsum(weights, axis=1)
    precision = (above + own) / np.maximum(from_top, 1.0)
    return np.asarray((weights * label * precision).sum(axis=1) / above[:, -1])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    folder = Path(tempfile.gettempdir()) / "poverty_risk_ceiling"
    folder.mkdir(exist_ok=True)
    households, counties, tests = options.households, options.counties, options.tests
    for seed in [*range(tests), *range(FIRST_ORACLE, FIRST_ORACLE + counties)]:
        path = folder / f"{households}_{seed}.parquet"
        if not path.exists():
            part = path.with_suffix(".part")
            run_fresh(__file__, "simulate", str(seed), str(households), str(part))
            part.rename(path)
    arguments = [str(households), str(counties), str(tests), str(folder)]
    return run_fresh(__file__, "judge", *arguments)


if __name__ == "__main__":
    run_script(
        __file__,
        __doc__,
        measure,
        {"simulate": simulate, "judge": judge},
        {"households": 100_000, "counties": 4, "tests": 3},
    )
