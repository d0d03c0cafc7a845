"""Visit lists: whom to visit first, within nested quotas, with a part left to chance.

Who goes first (`candidates`), within which quotas (`quotas`), the optimal selection (`selection`),
the random share (`draw`), what each constraint costs (`prices`), the list (`build`), and what its
visits found (`outcomes`).
"""

from poverty_risk.visits.build import VisitList, build_visit_list
from poverty_risk.visits.candidates import DEADLINES
from poverty_risk.visits.outcomes import VisitOutcomes, collect_looks, evaluate_visit_list

__all__ = [
    "DEADLINES",
    "VisitList",
    "VisitOutcomes",
    "build_visit_list",
    "collect_looks",
    "evaluate_visit_list",
]
