"""Yearly accounts and the feeds of departments, as an office receives them from a simulated county."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.datasets.dynamics import STAGE_NAMES
from poverty_risk.datasets.population import MONTHS, ROLLING, WORK_PLACES, Array
from poverty_risk.datasets.records import NEVER, Recorder, Values, number_texts, pick

__all__ = ["build_frames"]

GRADES = np.array(["A", "B", "C", "D"])
ACCOUNT_PARTS = ("wage", "business", "business_cost", "property", "transfer", "claims")


def build_frames(recorder: Recorder) -> dict[str, pa.Table]:
    """All raw tables of the archive."""
    return {
        "household": recorder.household(),
        "person": recorder.person(),
        "income": _income(recorder),
        "work": _work(recorder),
        "medical_bill": _medical_bill(recorder),
        "schooling": _schooling(recorder),
        "check": _check(recorder),
        "shock": _shock(recorder),
        "assistance": _assistance(recorder),
        "loan": _loan(recorder),
        "relocation": _relocation(recorder),
        "visit": _visit(recorder),
        "village": recorder.village(),
        "monitoring": recorder.monitoring(),
    }


def _covered(recorder: Recorder, who: Array, share: float) -> Array:
    """Whether an office keeps a feed of these households: all lifted ones, part of the others."""
    lifted = recorder.first.households["lifted"][who]
    return np.asarray(lifted | (recorder.coverage[who] < share))


def _income(recorder: Recorder) -> pa.Table:
    yearly = recorder.events("account", persons=False)
    rolling = recorder.events("rolling_account", persons=False)
    names = ("who", "month", "size", *ROLLING)
    covered = _covered(recorder, yearly["who"], recorder.spec.account_ordinary)
    seen = {n: yearly[n][covered] for n in names}
    both = {n: np.concatenate([seen[n], rolling[n]]) for n in names}
    is_rolling = np.arange(len(both["who"])) >= len(seen["who"])
    who, month = both["who"].astype(int), both["month"].astype(int)
    parts = _recorded_parts(recorder, both, is_rolling)
    low, high = recorder.spec.lag_days.income
    ended = np.where(is_rolling, month - 1, month)
    end = recorder.last_day(ended)
    lag = np.where(
        is_rolling,
        recorder.rng.integers(32, 60, len(who)),
        recorder.rng.integers(low, high + 1, len(who)),
    )
    known = end + lag.astype("timedelta64[D]")
    # Corrections come later, mostly upwards, before an inspection.
    again = np.flatnonzero(recorder.rng.random(len(who)) < recorder.spec.corrected)
    later = recorder.rng.integers(50, 260, len(again)).astype("timedelta64[D]")
    raised = parts["wage"][again] * recorder.rng.uniform(1.0, 1.5, len(again))
    rows = np.concatenate([np.arange(len(who)), again])
    parts = {name: values[rows] for name, values in parts.items()}
    parts["wage"][len(who) :] = raised.round()
    columns: dict[str, Values] = {
        "household_id": pick(recorder.household_ids, who[rows]),
        "period_start": recorder.first_day(ended[rows] - MONTHS + 1),
        "period_end": end[rows],
        "window": np.where(is_rolling[rows], "rolling", "annual"),
        "members": both["size"][rows].astype(int),
        **parts,
    }
    return recorder.table(
        "income", end[rows], columns, np.concatenate([known, known[again] + later])
    )


def _recorded_parts(
    recorder: Recorder, true: dict[str, Array], is_rolling: Array
) -> dict[str, Array]:
    """Income parts as declared: rounded, noisy, partly hidden, copied or replaced by a placeholder."""
    rng, spec = recorder.rng, recorder.spec
    size = len(true["who"])
    parts = {
        name: true[name] * np.exp(rng.normal(0, spec.account_noise, size)) for name in ACCOUNT_PARTS
    }
    parts["transfer"] = true["transfer"]
    parts["wage"] = parts["wage"] * (1 - rng.beta(1, 1 / spec.hidden_wage - 1, size))
    parts["rigid_expenditure"] = true["medical"] + true["education"] + true["loss"]
    parts = {name: values.round() for name, values in parts.items()}
    order = np.lexsort((true["month"], true["who"], is_rolling))
    before = np.full(size, -1)
    same = (true["who"][order][1:] == true["who"][order][:-1]) & ~is_rolling[order][1:]
    before[order[1:][same]] = order[:-1][same]
    copied = np.flatnonzero((before >= 0) & (rng.random(size) < spec.copied_year))
    originals = {name: values.copy() for name, values in parts.items()}
    for name, values in parts.items():
        values[copied] = originals[name][before[copied]]
    placeholder = (rng.random(size) < spec.placeholder_wage) & ~is_rolling
    parts["wage"][placeholder] = rng.integers(1, 100, int(placeholder.sum()))
    return parts


def _work(recorder: Recorder) -> pa.Table:
    seen = recorder.events("work", persons=True)
    kept = _covered(recorder, seen["household"], recorder.spec.work_feed_ordinary)
    seen = {name: values[kept] for name, values in seen.items()}
    columns = {
        "household_id": pick(recorder.household_ids, seen["household"]),
        "person_id": pick(recorder.person_ids, seen["who"]),
        "worked": seen["worked"],
        "place": (
            pick(np.array(WORK_PLACES), seen["place"]),
            ~seen["worked"] | (recorder.rng.random(len(seen["who"])) < recorder.spec.missing.place),
        ),
        "wage": (seen["wage"].round(-1), ~seen["worked"]),
        "public_post": seen["public_post"],
    }
    return recorder.table("work", recorder.last_day(seen["month"]), columns)


def _medical_bill(recorder: Recorder) -> pa.Table:
    seen = recorder.events("bill", persons=True)
    columns = {
        "household_id": pick(recorder.household_ids, seen["household"]),
        "person_id": pick(recorder.person_ids, seen["who"]),
        "bill_id": number_texts("B", len(seen["who"]), 9),
        "care": seen["care"],
        "severe_illness": seen["severe"],
        "total": seen["total"].round(2),
        "out_of_pocket": seen["own"].round(2),
    }
    return recorder.table("medical_bill", recorder.days_in(seen["month"]), columns)


def _schooling(recorder: Recorder) -> pa.Table:
    terms = recorder.events("term", persons=True)
    drops = recorder.events("dropout", persons=True)
    who = np.concatenate([terms["who"], drops["who"]])
    household = np.concatenate([terms["household"], drops["household"]])
    month = np.concatenate([terms["month"], drops["month"]])
    out = np.arange(len(who)) >= len(terms["who"])
    none = np.zeros(len(drops["who"]))
    stage = np.concatenate([terms["stage"], np.full(len(none), STAGE_NAMES.index("compulsory"))])
    # Terms begin on the first day of March and September; drop-outs are noticed on some day.
    event = np.where(out, recorder.days_in(month), recorder.first_day(month))
    columns = {
        "household_id": pick(recorder.household_ids, household),
        "person_id": pick(recorder.person_ids, who),
        "stage": pick(np.array(STAGE_NAMES), stage),
        "status": np.where(out, "dropped_out", "enrolled"),
        "cost": (np.concatenate([terms["cost"], none]).round(), out),
        "aid": (np.concatenate([terms["aid"], none]).round(), out),
    }
    return recorder.table("schooling", event, columns)


def _check(recorder: Recorder) -> pa.Table:
    spec, rng = recorder.spec, recorder.rng
    rounds = recorder.events("check", persons=False)
    lifted = recorder.first.households["lifted"]
    done = lifted[rounds["who"]] | (rng.random(len(rounds["who"])) < spec.check_ordinary)
    extra = recorder.events("inspected", persons=False)
    looked = rng.random(len(extra["who"])) < spec.inspected
    insured = recorder.events("insured", persons=False)
    parts = []
    for events, kept in ((rounds, done), (extra, looked)):
        who, month = events["who"][kept], events["month"][kept]
        grade, water = events["grade"][kept].astype(int), events["water"][kept]
        none = np.zeros(len(who), dtype=int)
        parts.append((who, month, np.full(len(who), "housing"), grade < 2, grade, none))
        parts.append((who, month, np.full(len(who), "water"), water, none - 1, none))
    uninsured = insured["uninsured"].astype(int)
    who = insured["who"]
    parts.append(
        (
            who,
            insured["month"],
            np.full(len(who), "insurance"),
            uninsured == 0,
            uninsured * 0 - 1,
            uninsured,
        )
    )
    who, month, item, passed, grade, bare = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    no_grade = (grade < 0) | (rng.random(len(who)) < spec.missing.grade)
    columns = {
        "household_id": pick(recorder.household_ids, who),
        "item": item,
        "passed": passed,
        "house_grade": (pick(GRADES, np.maximum(grade, 0)), no_grade),
        "uninsured_members": (bare, item != "insurance"),
    }
    return recorder.table("check", recorder.days_in(month), columns)


def _shock(recorder: Recorder) -> pa.Table:
    seen = recorder.events("shock", persons=False)
    jobs = recorder.events("job_loss", persons=True)
    heard = recorder.rng.random(len(jobs["who"])) < recorder.spec.job_loss_reported
    lost = jobs["household"][heard]
    who = np.concatenate([seen["who"], lost])
    month = np.concatenate([seen["month"], jobs["month"][heard]])
    kind = np.concatenate([seen["kind"], np.full(len(lost), "job_loss")])
    loss = np.concatenate([seen["loss"], np.zeros(len(lost))])
    unknown = (loss == 0) | (recorder.rng.random(len(who)) < recorder.spec.missing.loss)
    columns = {
        "household_id": pick(recorder.household_ids, who),
        "kind": kind,
        "loss": (loss.round(-1), unknown),
    }
    return recorder.table("shock", recorder.days_in(month), columns)


def _assistance(recorder: Recorder) -> pa.Table:
    h = recorder.first.households
    kept = np.flatnonzero((h["dibao"] > 0) & recorder.there)
    joined = recorder.events("dibao", persons=False)
    helped = recorder.events("help", persons=False)
    who = np.concatenate([kept, joined["who"], helped["who"], helped["who"]])
    medical = helped["medical"] / MONTHS
    amount = np.concatenate([h["dibao"][kept], joined["amount"], helped["amount"], medical])
    sizes = [len(kept), len(joined["who"]), len(helped["who"]), len(medical)]
    kind = np.repeat(["dibao", "dibao", "other", "medical"], sizes)
    decided = np.concatenate(
        [np.full(len(kept), recorder.first.month), joined["month"], *[helped["month"]] * 2]
    )
    # Help follows the decision in the month after.
    begun = recorder.first_day(decided + 1)
    until = np.full(len(who), np.datetime64("NaT", "D"), dtype="datetime64[D]")
    until[kind == "medical"] = begun[kind == "medical"] + np.timedelta64(365, "D")
    ended = np.full(len(who), NEVER)
    for name, end in (("dibao", "dibao_end"), ("other", "cleared")):
        mine = kind == name
        ended[mine] = _next_month(recorder, end, who[mine], decided[mine])
    low, high = recorder.spec.lag_days.assistance
    known = begun + recorder.rng.integers(low, high + 1, len(begun)).astype("timedelta64[D]")
    # That help ended is written down when it ended: a correction of the first record.
    worth = np.flatnonzero(amount >= 1)
    again = worth[ended[worth] != NEVER]
    closed = np.maximum(recorder.last_day(ended[again]), begun[again])
    rows = np.concatenate([worth, again])
    until = np.concatenate([until[worth], closed])
    written = np.maximum(closed, known[again]) + np.timedelta64(20, "D")
    columns = {
        "household_id": pick(recorder.household_ids, who[rows]),
        "kind": kind[rows],
        "amount": amount[rows].round(),
        "valid_to": (until, np.isnat(until)),
    }
    return recorder.table(
        "assistance", begun[rows], columns, np.concatenate([known[worth], written])
    )


def _next_month(recorder: Recorder, kind: str, who: Array, month: Array) -> Array:
    """Month of each household's next event of a kind, or of its leaving; `NEVER` without either."""
    events = recorder.events(kind, persons=False)
    width = recorder.last.month + 2
    ends = np.sort(events["who"] * width + events["month"])
    at = np.searchsorted(ends, who * width + month, side="right")
    found = np.append(ends, NEVER)[at]
    following = np.where(found // width == who, found % width, NEVER)
    return np.asarray(np.minimum(following, recorder.ended[who]))


def _loan(recorder: Recorder) -> pa.Table:
    seen = recorder.events("loan", persons=False)
    who = seen["who"]
    taken = seen["month"] - seen["since"]
    columns = {
        "household_id": pick(recorder.household_ids, who),
        "loan_id": pc.binary_join_element_wise(
            pick(recorder.household_ids, who), pa.array(taken).cast(pa.string()), "-L"
        ),
        "balance": seen["balance"].astype(float),
        "overdue_days": seen["overdue"].astype(int),
        "maturity_date": recorder.first_day(taken + 36),
    }
    return recorder.table("loan", recorder.last_day(seen["month"]), columns)


def _relocation(recorder: Recorder) -> pa.Table:
    h = recorder.first.households
    yearly = recorder.events("relocation", persons=False)
    start = np.flatnonzero(h["relocated"] & recorder.there)
    working = recorder.first.sum_by_household(recorder.first.persons["working"].astype(int)) > 0
    who = np.concatenate([start, yearly["who"]])
    has_job = np.concatenate([working[start], yearly["has_job"]])
    event = np.concatenate(
        [np.full(len(start), recorder.start), recorder.last_day(yearly["month"])]
    )
    columns = {
        "household_id": pick(recorder.household_ids, who),
        "mode": np.where(h["centralised"][who], "centralised", "scattered"),
        "occupied": np.ones(len(who), dtype=bool),
        "has_job": has_job,
    }
    return recorder.table("relocation", event, columns)


def _visit(recorder: Recorder) -> pa.Table:
    seen = recorder.events("visit", persons=False)
    columns = {
        "household_id": pick(recorder.household_ids, seen["who"]),
        "purpose": seen["purpose"],
        "difficulty_found": seen["found"],
    }
    return recorder.table("visit", recorder.visit_days, columns)
