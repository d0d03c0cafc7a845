"""Data sets: a synthetic county whose true risk is known, and a real household panel."""

from poverty_risk.datasets.county import OUTCOMES, SimulatedCounty, make_household_history
from poverty_risk.datasets.eph import read_eph

__all__ = ["OUTCOMES", "SimulatedCounty", "make_household_history", "read_eph"]
