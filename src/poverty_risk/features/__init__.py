"""Features: catalogue entries (`spec`), and what is computed from them (`build`)."""

from poverty_risk.features.build import build_features, build_known_dates
from poverty_risk.features.spec import Catalog, FeatureSpec, FeatureWords, load_catalog

__all__ = [
    "Catalog",
    "FeatureSpec",
    "FeatureWords",
    "build_features",
    "build_known_dates",
    "load_catalog",
]
