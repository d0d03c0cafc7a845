"""Leakage: features that know what nobody could know on the as-of date.

Three questions. Does one feature alone tell the label (then it probably is the label)? Are the
known dates of the tables believable? And, the only test that needs no threshold: do the features
stay the same when all that was not yet known is taken away, or exchanged between households?
"""

from poverty_risk.leakage.check import check_leakage
from poverty_risk.leakage.report import LeakageReport

__all__ = ["LeakageReport", "check_leakage"]
