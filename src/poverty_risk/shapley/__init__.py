"""Exact SHAP values of LightGBM's trees from tables per group of leaves, for explaining everyone."""

from __future__ import annotations

from poverty_risk.shapley.contributions import TreeContributions

__all__ = ["TreeContributions"]
