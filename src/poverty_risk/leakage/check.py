"""All checks for leakage in one call."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.features import Catalog, load_catalog
from poverty_risk.leakage.rebuild import check_unknown_records
from poverty_risk.leakage.report import COLUMNS, VERDICTS, LeakageReport
from poverty_risk.leakage.statistics import (
    check_aftermath,
    check_known_dates,
    check_single_features,
    judge_model_auc,
)
from poverty_risk.point_index import check_point_index
from poverty_risk.tables import HistoryTables
from poverty_risk.windows import Horizon

__all__ = ["check_leakage"]


def check_leakage(
    tables: HistoryTables,
    points: pd.DataFrame,
    labels: pd.Series,
    features: pd.DataFrame,
    catalog: Catalog | None = None,
    *,
    horizon: str | Horizon = "12mo",
    label: str | None = None,
    auc: float | None = None,
    households: int = 400,
    seed: int = 0,
) -> LeakageReport:
    """Look for features that know the outcome, and for tables whose dates cannot be believed.

    Parameters
    ----------
    tables
        The history that the features were built from.
    points
        Prediction points, index (household_id, as_of_date).
    labels
        1, 0 or missing (censored: not used), same index.
    features
        Features as they are given to a model, same index.
    catalog
        What they were built from; the catalogue named like the schema by default.
    horizon
        Horizon of the labels.
    label
        Name of the label definition: its own tables are expected to follow the outcome.
    auc
        Area under the ROC curve of the whole model on later dates, if there is one.
    households
        Households for which features are built again; positives are taken first, up to one half.
    seed
        Of the sample and of the exchange.

    Returns
    -------
    LeakageReport
        Findings by feature and by table.

    Raises
    ------
    FeatureError
        Points, labels and features do not stand on the same points.

    Notes
    -----
    ``auc`` is the rank AUC in the better direction (categories: of the rate per code, estimated on
    other households), ``auc_missing`` that of being missing. ``unknown_removed`` and
    ``unknown_exchanged`` are shares of sampled points whose value changes when records with
    ``known_date >= as_of_date`` are dropped, or get the values of another record: any is a leak.
    A known date that is wrong and too early cannot be found by rebuilding; the other checks are
    there for that.

    Examples
    --------
    >>> from poverty_risk import build_features, build_prediction_points, check_leakage
    >>> from poverty_risk import label_returns, load_catalog, make_household_history
    >>> tables = make_household_history(200, seed=1).tables
    >>> points = build_prediction_points(tables, "2023-01-01")
    >>> catalog = load_catalog("archive")
    >>> features = build_features(tables, points, catalog)
    >>> labels = label_returns(tables, points)
    >>> check_leakage(tables, points, labels, features, catalog, households=50).has_leaks
    False
    """
    labels, features = _check_inputs(points, labels, features)
    catalog = load_catalog(tables.schema.name) if catalog is None else catalog
    length = Horizon.parse(horizon)
    findings = check_single_features(features, labels, catalog)
    findings += check_known_dates(tables, length)
    findings += check_aftermath(tables, labels, length, label)
    findings += check_unknown_records(tables, labels, features, catalog, households, seed)
    if auc is not None:
        findings.append(judge_model_auc(auc))
    table = pd.DataFrame(findings, columns=list(COLUMNS))
    order = table["verdict"].map({verdict: rank for rank, verdict in enumerate(VERDICTS)})
    sorted_table = table.iloc[np.argsort(order.to_numpy(), kind="stable")]
    return LeakageReport(sorted_table.reset_index(drop=True))


def _check_inputs(
    points: pd.DataFrame, labels: pd.Series, features: pd.DataFrame
) -> tuple[pd.Series, pd.DataFrame]:
    check_point_index(points, "points")
    faults = []
    for name, given in (("labels", labels), ("features", features)):
        missing = len(points.index.difference(given.index))
        if missing or not given.index.is_unique:
            faults.append(
                Fault(
                    name,
                    f"{missing} of {len(points)} points without an entry, or repeated points",
                    "one entry for each point",
                    "Compute both from the same points.",
                )
            )
    if faults:
        raise FeatureError(faults)
    return labels.reindex(points.index).astype(float), features.reindex(points.index)
