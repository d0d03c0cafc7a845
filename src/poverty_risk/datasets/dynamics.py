"""How a simulated county lives from month to month: members, health, school, and all the rest.

Every step changes the state in place and reports what happened to an event log; what the office
comes to know of it is another module's matter (`records`), who is identified another's
(`identification`).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from poverty_risk.datasets.events import (
    EventLog,
    calendar,
    describe_persons,
    monthly,
    name_new_heads,
    note_persons,
)
from poverty_risk.datasets.livelihood import earn, repay, suffer_shocks, wear_out, work
from poverty_risk.datasets.population import (
    ADULT,
    COLLEGE,
    COMPULSORY,
    DEAD,
    ELDERLY,
    LEFT,
    MONTHS,
    NO_STAGE,
    PRESCHOOL,
    PRESENT,
    SCHOOL_AGE,
    SENIOR,
    UNBORN,
    VOCATIONAL,
    Array,
    State,
    age_years,
    load_constants,
    lognormal,
)

__all__ = ["STAGE_NAMES", "live_one_month"]

Rng = np.random.Generator
TERM_MONTHS = (3, 9)
CHECK_MONTH, INSURANCE_MONTH = 4, 2
"""When houses and water, and when insurance, are checked."""

STAGE_NAMES = ("none", "preschool", "compulsory", "senior", "vocational", "college")


def _gompertz(spec: Any, age: Array) -> Array:
    return np.asarray(spec.at_30 * np.exp(spec.growth * (np.maximum(age, 0) - 30)))


def live_one_month(state: State, rng: Rng, log: EventLog | None) -> SimpleNamespace:
    """Let a month pass; returns the month's money by household for the review of hardship."""
    state.month += 1
    year, season = calendar(state.month)
    c = load_constants()
    money = SimpleNamespace(**{name: np.zeros(len(state.first)) for name in state.rolling})
    money.alert = np.zeros(len(state.first))
    age = age_years(state)
    _change_members(state, rng, age, money, log)
    _fall_ill(state, rng, age, money, log)
    _go_to_school(state, rng, age, season, money, log)
    work(state, rng, age, year, season, money, log)
    suffer_shocks(state, rng, season, money, log)
    wear_out(state, rng, season, log)
    earn(state, age, year, season, money)
    repay(state, rng, log)
    if season == 1:
        members = state.sum_by_household((state.persons["status"] == PRESENT).astype(int))
        skipped = np.where(
            rng.random(len(members)) < c.guarantees.uninsured,
            rng.integers(1, 3, len(members)),
            0,
        )
        state.households["uninsured"] = np.minimum(skipped, members).astype(np.int8)
    if log is not None:
        _report_regularly(state, age, season, log)
    slot = state.month % MONTHS
    for name, ring in state.rolling.items():
        state.year_ago[name] = ring[slot].copy()
        ring[slot] = getattr(money, name)
    return money


def _report_regularly(state: State, age: Array, season: int, log: EventLog) -> None:
    """What offices collect from everybody once a year."""
    h = state.households
    active = np.flatnonzero(h["active"])
    if season == CHECK_MONTH:
        log.add("check", state.month, active, grade=h["grade"][active], water=h["water"][active])
    if season == INSURANCE_MONTH:
        log.add("insured", state.month, active, uninsured=h["uninsured"][active])
    if season == MONTHS:
        present = np.flatnonzero(state.persons["status"] == PRESENT)
        log.add("yearly_person", state.month, present, **describe_persons(state, present, age))
        moved = np.flatnonzero(h["active"] & h["relocated"])
        jobs = state.sum_by_household(state.persons["working"].astype(int))
        log.add("relocation", state.month, moved, has_job=jobs[moved] > 0)


def _change_members(
    state: State, rng: Rng, age: Array, money: SimpleNamespace, log: EventLog | None
) -> None:
    p, c = state.persons, load_constants()
    present = p["status"] == PRESENT
    born = (p["status"] == UNBORN) & (age >= 0)
    hazard = _gompertz(c.people.mortality, age) * np.where(p["severe"] > 0, 12.0, 1.0)
    draw = rng.random(len(age))
    dies = present & (draw < monthly(hazard))
    grown = present & (age >= 19) & (age < 30) & ~p["head"]
    leaves = grown & ~dies & (draw > 1 - monthly(c.people.leaves))
    p["status"][born] = PRESENT
    p["status"][dies] = DEAD
    p["status"][leaves] = LEFT
    gone = dies | leaves
    earner = dies & (age >= ADULT) & (age < ELDERLY + 5)
    p["working"][gone] = p["public_post"][gone] = False
    name_new_heads(state, gone)
    if log is not None:
        note_persons(state, np.flatnonzero(born | gone), age, log)
        hit = p["household"][earner]
        log.add("shock", state.month, hit, kind="death", loss=0.0)
    money.alert[p["household"][earner]] += load_constants().monitoring.alert.death
    moved = state.households["active"] & (
        rng.random(len(state.first)) < monthly(c.households.moved)
    )
    empty = state.households["active"] & (state.sum_by_household(p["status"] == PRESENT) == 0)
    state.households["active"] &= ~(moved | empty)
    if log is not None:
        log.add("household_end", state.month, np.flatnonzero(moved & ~empty), status="moved")
        log.add("household_end", state.month, np.flatnonzero(empty), status="dissolved")


def _fall_ill(
    state: State, rng: Rng, age: Array, money: SimpleNamespace, log: EventLog | None
) -> None:
    p, h, c = state.persons, state.households, load_constants().health
    present = p["status"] == PRESENT
    fragility = h["fragility"][p["household"]]
    draws = rng.random((3, len(age)))
    onset = _gompertz(c.severe, age) * fragility * np.where(p["chronic"], c.severe_if_chronic, 1.0)
    falls = present & (p["severe"] == 0) & (draws[0] < monthly(onset))
    chronic = present & ~p["chronic"]
    chronic &= draws[1] < monthly(_gompertz(c.chronic, age) * fragility)
    disabled = (
        present & (p["disability"] == 0) & (draws[2] < monthly(load_constants().health.disability))
    )
    stay = present & ~falls & (draws[2] > 1 - monthly(_gompertz(c.inpatient, age) * fragility))
    recovers = present & (p["severe"] == 1)
    crippled = recovers & (draws[1] < c.disabled_after_severe) & (p["disability"] == 0)
    p["severe"] = np.maximum(p["severe"] - 1, 0)
    p["severe"][falls] = 1 + rng.geometric(1 / c.severe_months, int(falls.sum()))
    p["chronic"] |= chronic
    disabled |= crippled
    p["disability"][disabled] = rng.choice(
        [1, 2, 3, 4], int(disabled.sum()), p=[0.15, 0.3, 0.3, 0.25]
    )
    note_persons(state, np.flatnonzero(falls | chronic | disabled | recovers), age, log)
    _pay_bills(state, rng, np.flatnonzero(falls), c.severe_cost, "severe", money, log)
    _pay_bills(state, rng, np.flatnonzero(stay), c.inpatient_cost, "inpatient", money, log)
    regular = np.flatnonzero(present & p["chronic"] & (rng.random(len(age)) < 0.25))
    _pay_bills(state, rng, regular, c.chronic_cost, "outpatient", money, log)


def _pay_bills(
    state: State,
    rng: Rng,
    who: Array,
    cost: Any,
    care: str,
    money: SimpleNamespace,
    log: EventLog | None,
) -> None:
    c, household = load_constants().health, state.persons["household"][who]
    total = lognormal(rng, cost, len(who)) * (3.0 if care == "outpatient" else 1.0)
    paid = np.clip(rng.normal(c.reimbursed.mean, c.reimbursed.sd, len(who)), 0.3, 0.95)
    paid += c.extra_reimbursed_lifted * state.households["lifted"][household]
    # An uninsured member pays all; who of the household is uninsured is a matter of chance.
    size = state.sum_by_household(state.persons["status"] == PRESENT)[household]
    bare = rng.random(len(who)) < state.households["uninsured"][household] / np.maximum(size, 1)
    own = total * np.where(bare, 1.0, 1 - np.minimum(paid, 0.95))
    np.add.at(money.medical, household, own)
    big = own >= load_constants().monitoring.alert.bill_from
    np.add.at(money.alert, household[big], load_constants().monitoring.alert.bill)
    if log is not None:
        kind = "inpatient" if care == "severe" else care
        log.add("bill", state.month, who, care=kind, severe=care == "severe", total=total, own=own)


def _go_to_school(
    state: State, rng: Rng, age: Array, season: int, money: SimpleNamespace, log: EventLog | None
) -> None:
    p, c = state.persons, load_constants().schooling
    present = p["status"] == PRESENT
    pupil = present & (p["stage"] == COMPULSORY) & ~p["dropped"]
    hardship = np.where(state.households["ratio"][p["household"]] < 1.1, 3.0, 1.0)
    drops = pupil & (age > 10) & (rng.random(len(age)) < monthly(c.dropout) * hardship)
    # Most come back within months.
    returns = p["dropped"] & (rng.random(len(age)) < 0.15)
    p["dropped"] = (p["dropped"] & ~returns) | drops
    money.alert[p["household"][drops]] += load_constants().monitoring.alert.dropout
    if log is not None:
        log.add("dropout", state.month, np.flatnonzero(drops))
    if season not in TERM_MONTHS:
        return
    if season == TERM_MONTHS[1]:
        _move_up(state, rng, age)
    enrolled = np.flatnonzero((p["status"] == PRESENT) & (p["stage"] > PRESCHOOL) & ~p["dropped"])
    stage = p["stage"][enrolled]
    household = p["household"][enrolled]
    names = STAGE_NAMES[COMPULSORY:]
    prices = np.array([getattr(c.term_cost, name) for name in names])
    aids = np.array([getattr(c.aid_lifted, name) for name in names])
    noise = np.exp(rng.normal(0, 0.25, len(enrolled)))
    cost = prices[stage - COMPULSORY] * noise
    aid = aids[stage - COMPULSORY] * state.households["lifted"][household]
    np.add.at(money.education, household, np.maximum(cost - aid, 0))
    if log is not None:
        log.add("term", state.month, enrolled, stage=stage, cost=cost, aid=aid)


def _move_up(state: State, rng: Rng, age: Array) -> None:
    """In September pupils enter, change and leave schools."""
    p, c = state.persons, load_constants().schooling
    stage, draw = p["stage"].copy(), rng.random(len(age))
    stage[(age >= 3) & (age < SCHOOL_AGE)] = PRESCHOOL
    stage[(age >= SCHOOL_AGE) & (age < 15) & (stage <= PRESCHOOL)] = COMPULSORY
    ends = (stage == COMPULSORY) & (age >= 15)
    stage[ends] = np.where(
        draw[ends] < c.continue_senior,
        np.where(rng.random(int(ends.sum())) < 0.5, SENIOR, VOCATIONAL),
        NO_STAGE,
    )
    p["education"][ends] = 2
    # Compulsory schooling is over for them: that guarantee cannot fail any more.
    p["dropped"][ends] = False
    graduates = np.isin(p["stage"], (SENIOR, VOCATIONAL)) & (age >= 18)
    p["education"][graduates] = 3
    stage[graduates] = np.where(draw[graduates] < c.continue_college, COLLEGE, NO_STAGE)
    done = (p["stage"] == COLLEGE) & (age >= 22)
    p["education"][done] = np.where(draw[done] < 0.6, 4, 5)
    stage[done] = NO_STAGE
    p["stage"] = stage
