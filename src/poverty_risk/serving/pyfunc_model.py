"""The registered model as MLflow runs it: features by name in, risk, tier and reasons out.

MLflow copies this file into every registered model and runs it when the model is loaded ("models from
code"), so that no pickle is involved; the model itself is the model folder that is logged beside it.
It must stay loadable by later releases: it imports public names of the package only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from poverty_risk.explain import explain_risk
from poverty_risk.model import RiskModel
from poverty_risk.reasons import build_reasons

__all__ = ["ServedModel"]


class ServedModel(PythonModel):
    """Risk, tier and reasons for features that another program has already computed."""

    def load_context(self, context: Any) -> None:
        """Load the model folder that was logged with the model."""
        self.model = RiskModel.load(Path(context.artifacts["model_folder"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict from features.

        Parameters
        ----------
        context
            From MLflow; not used.
        model_input
            One row per household, one column per feature of the model, found by name.
        params
            ``locale``: ``"zh"`` (default) or ``"en"``; ``reasons``: False leaves the reasons empty
            and is faster.

        Returns
        -------
        DataFrame
            Index of `model_input`; ``risk`` (calibrated probability in [0, 1]), ``tier``,
            ``margin`` (log-odds), ``reasons`` and ``protective_factors`` (lists of str).
        """
        del context  # the signature is MLflow's
        asked = params or {}
        model = self.model
        if asked.get("reasons", True):
            explanation = explain_risk(model, model_input)
            margin = explanation.margin
            found = build_reasons(explanation, model, str(asked.get("locale", "zh")))
            raising = [[reason.text for reason in told if reason.raises] for told in found]
            lowering = [[reason.text for reason in told if not reason.raises] for told in found]
        else:
            margin = model.margin(model_input)
            raising, lowering = [[]] * len(model_input), [[]] * len(model_input)
        risk = model.risk_of_margin(margin)
        return pd.DataFrame(
            {
                "risk": risk,
                "tier": model.tier(risk),
                "margin": margin,
                "reasons": pd.Series(raising, index=model_input.index, dtype=object),
                "protective_factors": pd.Series(lowering, index=model_input.index, dtype=object),
            }
        )


set_model(ServedModel())
