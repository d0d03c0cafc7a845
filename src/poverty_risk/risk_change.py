"""Why a household's risk moved between two rounds."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from poverty_risk.exceptions import Fault, FeatureError
from poverty_risk.explain import SMALLEST_WAY, explain_risk
from poverty_risk.model import RiskModel

__all__ = ["RiskChange", "explain_change"]


@dataclass(frozen=True)
class RiskChange:
    """Why risks moved between two rounds, in probability points that sum exactly.

    Parameters
    ----------
    before, after
        Calibrated risk of each household in the earlier and in the later round.
    by_theme
        Points from what changed in the household, one column per theme.
    by_model
        Points from the exchange of the model: the new model's risk of the old features minus the
        old model's; 0 when both rounds used the same model.
    """

    before: pd.Series
    after: pd.Series
    by_theme: pd.DataFrame
    by_model: pd.Series


def explain_change(
    model: RiskModel,
    before: pd.DataFrame,
    after: pd.DataFrame,
    *,
    model_before: RiskModel | None = None,
) -> RiskChange:
    """Explain why each household's risk moved since the last round.

    Parameters
    ----------
    model
        The model of the later round.
    before, after
        Features of the two rounds, index (household_id, as_of_date), one date per household and
        round; households of only one round are left out.
    model_before
        The model of the earlier round; by default the same.

    Returns
    -------
    RiskChange
        Index household_id. ``by_theme`` summed over themes plus ``by_model`` is ``after - before``.

    Raises
    ------
    FeatureError
        A household comes twice in a round.

    Notes
    -----
    The household's part is measured with the new model, between its features of the two rounds; what
    is left is the model's. Themes share the household's part in proportion to the change of their
    log-odds contributions (Aumann-Shapley shares of the calibrated curve along the straight way).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from poverty_risk import RiskModel, explain_change
    >>> index = pd.MultiIndex.from_product([[f"h{i}" for i in range(400)],
    ...     pd.to_datetime(["2021-01-01"])], names=["household_id", "as_of_date"])
    >>> features = pd.DataFrame({"income": np.linspace(-2, 2, 400)}, index=index)
    >>> labels = pd.Series((features["income"] < -1).astype(float), index=index)
    >>> model = RiskModel(n_estimators=9, calibration=None, early_stopping_rounds=None)
    >>> change = explain_change(model.fit(features, labels), features, features - 1)
    >>> total = change.by_theme.sum(axis=1) + change.by_model
    >>> bool(np.allclose(total, change.after - change.before))
    True
    """
    earlier, later = (_by_household(frame) for frame in (before, after))
    both = earlier.index.intersection(later.index, sort=False)
    earlier, later = earlier.loc[both], later.loc[both]
    old, new = explain_risk(model, earlier), explain_risk(model, later)
    way = new.margin - old.margin
    near = way.abs() < SMALLEST_WAY
    slope = ((new.risk - old.risk) / way.mask(near, 1.0)).where(~near, new.local_slope)
    first = old.risk if model_before is None else model_before.risk(earlier)
    return RiskChange(
        before=first,
        after=new.risk,
        by_theme=(new.by_theme - old.by_theme).mul(slope, axis=0),
        by_model=(old.risk - first).rename("by_model"),
    )


def _by_household(features: pd.DataFrame) -> pd.DataFrame:
    frame = features.droplevel([n for n in features.index.names if n != "household_id"])
    if not frame.index.is_unique:
        raise FeatureError(
            Fault(
                "features",
                "a household twice in one round",
                "one date per household",
                "Take the features of one as-of date.",
            )
        )
    return frame
