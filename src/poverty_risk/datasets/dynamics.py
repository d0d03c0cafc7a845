"""How a simulated county lives from month to month: members, health, school, work, shocks, income.

Every step changes the state in place and reports what happened to an event log; what the office
comes to know of it is another module's matter (`records`), who is identified another's
(`identification`).
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np

from poverty_risk.datasets.population import (
    ADULT,
    COLLEGE,
    COMPULSORY,
    DEAD,
    ELDERLY,
    LEFT,
    MONTHS,
    NO_STAGE,
    ORDINARY,
    PRESCHOOL,
    PRESENT,
    SCHOOL_AGE,
    SCHOOL_YEARS,
    SENIOR,
    SKILLED,
    UNBORN,
    VOCATIONAL,
    Array,
    State,
    age_years,
    labour_capacity,
    load_constants,
    lognormal,
)

__all__ = ["EventLog", "calendar", "describe_persons", "live_one_month"]

Rng = np.random.Generator
TERM_MONTHS = (3, 9)
FLOOD_MONTHS = (7, 8, 9)
HARVEST_MONTHS = {6: 0.25, 7: 0.1, 9: 0.2, 10: 0.35, 12: 0.1}
"""Share of the year's farm and trade income that comes in a month."""

HARVEST_SEASON = 5
"""When the luck of the new farming year is drawn."""

CHECK_MONTH, INSURANCE_MONTH = 4, 2
"""When houses and water, and when insurance, are checked."""

STAGE_NAMES = ("none", "preschool", "compulsory", "senior", "vocational", "college")


class EventLog:
    """What happened, by kind: columns with the month and the positions of who it happened to."""

    def __init__(self) -> None:
        self.events: dict[str, list[dict[str, Array]]] = defaultdict(list)

    def add(self, event_kind: str, month: int, who: Array, /, **columns: Any) -> None:
        """Note that something happened to persons or households in a month."""
        if len(who):
            size = len(who)
            values = {name: np.broadcast_to(value, size) for name, value in columns.items()}
            self.events[event_kind].append({"month": np.full(size, month), "who": who, **values})

    def collect(self, kind: str) -> dict[str, Array]:
        """All events of a kind, months in order; empty when there were none."""
        parts = self.events.get(kind, [])
        if not parts:
            return {}
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def describe_persons(state: State, who: Array, age: Array) -> dict[str, Array]:
    """What an archive would hold of these persons now."""
    p = state.persons
    return {
        "education": p["education"][who],
        "in_school": p["stage"][who] > NO_STAGE,
        "labour": labour_capacity(state, age)[who],
        "chronic": p["chronic"][who],
        "severe": p["severe"][who] > 0,
        "disability": p["disability"][who],
        "head": p["head"][who],
        "status": p["status"][who],
    }


def _note_persons(state: State, who: Array, age: Array, log: EventLog | None) -> None:
    if log is not None and len(who):
        log.add("person", state.month, who, **describe_persons(state, who, age))


def _monthly(yearly: Any) -> Any:
    return yearly / MONTHS


def _gompertz(spec: Any, age: Array) -> Array:
    return np.asarray(spec.at_30 * np.exp(spec.growth * (np.maximum(age, 0) - 30)))


def calendar(month: int) -> tuple[int, int]:
    """Year and month of the year (1 to 12)."""
    return month // MONTHS, month % MONTHS + 1


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
    _work(state, rng, age, year, season, money, log)
    _suffer_shocks(state, rng, season, money, log)
    _wear_out(state, rng, season, log)
    _earn(state, rng, age, year, season, money)
    _repay(state, rng, money, log)
    if season == 1:
        state.households["uninsured"] = np.where(
            rng.random(len(state.first)) < c.guarantees.uninsured, rng.integers(1, 3), 0
        ).astype(np.int8)
    if log is not None:
        _report_regularly(state, age, season, log)
    slot = state.month % MONTHS
    for name, ring in state.rolling.items():
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
    dies = present & (draw < _monthly(hazard))
    grown = present & (age >= 19) & (age < 30) & ~p["head"]
    leaves = grown & ~dies & (draw > 1 - _monthly(c.people.leaves))
    p["status"][born] = PRESENT
    p["status"][dies] = DEAD
    p["status"][leaves] = LEFT
    gone = dies | leaves
    earner = dies & (age >= ADULT) & (age < ELDERLY + 5)
    p["working"][gone] = p["public_post"][gone] = False
    _name_new_heads(state, gone)
    if log is not None:
        _note_persons(state, np.flatnonzero(born | gone), age, log)
        hit = p["household"][earner]
        log.add("shock", state.month, hit, kind="death", loss=0.0)
    money.alert[p["household"][earner]] += load_constants().monitoring.alert.death
    moved = state.households["active"] & (
        rng.random(len(state.first)) < _monthly(c.households.moved)
    )
    empty = state.households["active"] & (state.sum_by_household(p["status"] == PRESENT) == 0)
    state.households["active"] &= ~(moved | empty)
    if log is not None:
        log.add("household_end", state.month, np.flatnonzero(moved & ~empty), status="moved")
        log.add("household_end", state.month, np.flatnonzero(empty), status="dissolved")


def _name_new_heads(state: State, gone: Array) -> None:
    """The first member present follows a head who died."""
    p = state.persons
    lost = np.flatnonzero(gone & p["head"])
    for person in lost:
        household = p["household"][person]
        start = state.first[household]
        stop = np.searchsorted(p["household"], household, side="right")
        members = np.arange(start, stop)
        there = members[p["status"][members] == PRESENT]
        p["head"][person] = False
        if len(there):
            p["head"][there[0]] = True


def _fall_ill(
    state: State, rng: Rng, age: Array, money: SimpleNamespace, log: EventLog | None
) -> None:
    p, h, c = state.persons, state.households, load_constants().health
    present = p["status"] == PRESENT
    fragility = h["fragility"][p["household"]]
    draws = rng.random((3, len(age)))
    onset = _gompertz(c.severe, age) * fragility * np.where(p["chronic"], c.severe_if_chronic, 1.0)
    falls = present & (p["severe"] == 0) & (draws[0] < _monthly(onset))
    chronic = present & ~p["chronic"]
    chronic &= draws[1] < _monthly(_gompertz(c.chronic, age) * fragility)
    disabled = present & (p["disability"] == 0) & (draws[2] < _monthly(load_constants().health.disability))
    stay = present & ~falls & (draws[2] > 1 - _monthly(_gompertz(c.inpatient, age) * fragility))
    recovers = p["severe"] == 1
    crippled = recovers & (draws[1] < c.disabled_after_severe) & (p["disability"] == 0)
    p["severe"] = np.maximum(p["severe"] - 1, 0)
    p["severe"][falls] = 1 + rng.geometric(1 / c.severe_months, int(falls.sum()))
    p["chronic"] |= chronic
    disabled |= crippled
    p["disability"][disabled] = rng.choice([1, 2, 3, 4], int(disabled.sum()), p=[0.15, 0.3, 0.3, 0.25])
    _note_persons(state, np.flatnonzero(falls | chronic | disabled | recovers), age, log)
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
    pupil = present & (p["stage"] == COMPULSORY)
    hardship = np.where(state.households["ratio"][p["household"]] < 1.1, 3.0, 1.0)
    drops = pupil & (age > 10) & (rng.random(len(age)) < _monthly(c.dropout) * hardship)
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
    graduates = np.isin(p["stage"], (SENIOR, VOCATIONAL)) & (age >= 18)
    p["education"][graduates] = 3
    stage[graduates] = np.where(draw[graduates] < c.continue_college, COLLEGE, NO_STAGE)
    done = (p["stage"] == COLLEGE) & (age >= 22)
    p["education"][done] = np.where(draw[done] < 0.6, 4, 5)
    stage[done] = NO_STAGE
    p["stage"] = stage


def _work(
    state: State,
    rng: Rng,
    age: Array,
    year: int,
    season: int,
    money: SimpleNamespace,
    log: EventLog | None,
) -> None:
    p, c = state.persons, load_constants().work
    if state.slump:
        state.slump -= 1
    elif rng.random() < _monthly(c.bad_season.per_year):
        state.slump = int(c.bad_season.months)
    slump = state.slump > 0
    able = np.isin(labour_capacity(state, age), (SKILLED, ORDINARY)) & (p["status"] == PRESENT)
    able &= state.households["active"][p["household"]]
    draw = rng.random(len(age))
    lost_rate = c.lost_per_month * (c.bad_season.lost if slump else 1.0)
    lost_rate *= 1.6 if season in (1, 2) else 1.0
    loses = p["working"] & ((draw < lost_rate) | ~able)
    helped = state.households["help"][p["household"]] > 0
    found_rate = c.found_per_month * (c.bad_season.found if slump else 1.0) * np.where(age > 50, 0.5, 1.0)
    found_rate = found_rate + load_constants().monitoring.helped.job * helped
    finds = able & p["wants_work"] & ~p["working"] & (draw < found_rate)
    p["working"] = (p["working"] & ~loses) | finds
    p["public_post"] &= p["working"]
    places = np.array([c.monthly_wage.village, c.monthly_wage.county, c.monthly_wage.province, c.monthly_wage.outside])
    growth = (1 + c.wage_growth) ** (year - load_constants().base_year)
    level = state.households["ability"][p["household"]] + p["quality"]
    level = level + c.per_school_year * (SCHOOL_YEARS[p["education"]] - 8)
    worker = np.flatnonzero(p["working"])
    wage = places[p["place"][worker]] * growth * np.exp(level[worker])
    wage = np.where(p["public_post"][worker], 700 * growth, wage)
    wage *= np.exp(rng.normal(0, 0.08, len(worker))) * (0.6 if season == 2 else 1.0)
    np.add.at(money.wage, p["household"][worker], wage)
    out = np.flatnonzero(loses & able & ~p["public_post"])
    np.add.at(money.alert, p["household"][out], load_constants().monitoring.alert.job)
    if log is not None:
        full = np.zeros(len(age))
        full[worker] = wage
        seen = np.flatnonzero(p["wants_work"] & (p["status"] == PRESENT) & (able | loses))
        log.add("work", state.month, seen, worked=p["working"][seen], place=p["place"][seen],
                wage=full[seen], public_post=p["public_post"][seen])
        log.add("job_loss", state.month, out)


def _suffer_shocks(
    state: State, rng: Rng, season: int, money: SimpleNamespace, log: EventLog | None
) -> None:
    h, v, c = state.households, state.villages, load_constants().shocks
    alert = load_constants().monitoring.alert
    size = len(state.first)
    draws = rng.random((4, size))
    flooded = np.zeros(size, dtype=bool)
    if season in FLOOD_MONTHS:
        floods = rng.random(len(v["flood"])) < v["flood"] / len(FLOOD_MONTHS)
        flooded = floods[h["village"]] & (draws[0] < c.flood_hit * h["exposure"])
    wet = np.flatnonzero(flooded & h["active"])
    damaged = wet[rng.random(len(wet)) < c.flood_house]
    h["grade"][damaged] = np.maximum(h["grade"][damaged], rng.choice([2, 3], len(damaged)))
    for kind, who in (
        ("flood", wet),
        ("geological", np.flatnonzero((draws[1] < _monthly(c.geological)) & h["active"])),
        ("fire", np.flatnonzero((draws[2] < _monthly(c.fire)) & h["active"])),
    ):
        loss = lognormal(rng, c.flood_loss if kind == "flood" else c.other_loss, len(who))
        _lose(state, who, kind, loss, alert.disaster, money, log)
    _meet_accidents(state, rng, money, log)
    fails = np.flatnonzero((draws[3] < _monthly(c.industry_failure)) & h["active"])
    h["failed"] = np.maximum(h["failed"] - 1, 0)
    h["failed"][fails] = MONTHS
    money.alert[fails] += alert.industry
    h["drought"] = np.maximum(h["drought"] - 1, 0)
    if season == FLOOD_MONTHS[1]:
        townships = v["township"][h["village"]]
        dry = rng.random(int(townships.max()) + 1) < c.drought_per_year
        h["drought"][dry[townships]] = MONTHS
        if log is not None:
            log.add("shock", state.month, np.flatnonzero(dry[townships]), kind="drought", loss=0.0)
    if log is not None:
        log.add("shock", state.month, fails, kind="industry_failure", loss=0.0)


def _meet_accidents(state: State, rng: Rng, money: SimpleNamespace, log: EventLog | None) -> None:
    p, c = state.persons, load_constants().shocks
    alert = load_constants().monitoring.alert
    hurt = np.flatnonzero(p["working"] & (rng.random(len(p["working"])) < _monthly(c.accident)))
    outcome = rng.random(len(hurt))
    crippled, killed = hurt[outcome < 0.2], hurt[outcome > 0.95]
    p["disability"][crippled] = rng.choice([1, 2, 3], len(crippled))
    p["status"][killed] = DEAD
    p["working"][np.concatenate([crippled, killed])] = False
    gone = np.zeros(len(p["working"]), dtype=bool)
    gone[killed] = True
    _name_new_heads(state, gone)
    loss = lognormal(rng, c.accident_cost, len(hurt))
    state.households["accident"] = np.maximum(state.households["accident"] - 1, 0)
    state.households["accident"][p["household"][hurt]] = MONTHS
    _lose(state, p["household"][hurt], "accident", loss, alert.accident, money, log)
    _note_persons(state, np.concatenate([crippled, killed]), age_years(state), log)


def _lose(
    state: State,
    who: Array,
    kind: str,
    loss: Array,
    alert: float,
    money: SimpleNamespace,
    log: EventLog | None,
) -> None:
    covered = state.households["insured_loss"][who] * load_constants().shocks.insured_loss
    np.add.at(money.loss, who, loss)
    np.add.at(money.claims, who, loss * covered)
    np.add.at(money.alert, who, alert)
    if log is not None:
        log.add("shock", state.month, who, kind=kind, loss=loss)


def _wear_out(state: State, rng: Rng, season: int, log: EventLog | None) -> None:
    h, v, c = state.households, state.villages, load_constants().guarantees
    draw = rng.random((2, len(state.first)))
    grade = h["grade"]
    worsen = np.array([c.grade_b, c.grade_c, c.grade_d, 0.0])[grade] / MONTHS
    repaired = (grade >= 2) & (draw[0] > 1 - np.where(h["help"] > 0, 0.35, c.repaired_per_month))
    h["grade"] = np.where(repaired, 0, grade + (draw[0] < worsen)).astype(np.int8)
    failing = rng.random(len(v["flood"])) < _monthly(load_constants().places.water_failure_per_year)
    own = draw[1] < _monthly(c.water_household)
    restored = ~h["water"] & (draw[1] > 1 - np.where(h["help"] > 0, 0.6, 0.3))
    shared = failing[h["village"]] & (draw[1] < 0.3)
    h["water"] = (h["water"] | restored) & ~(own | shared)
    if log is not None:
        broken = np.flatnonzero((h["grade"] > grade) & (h["grade"] >= 2) | own | shared)
        log.add("inspected", state.month, broken, grade=h["grade"][broken], water=h["water"][broken])
    if season == HARVEST_SEASON:
        h["harvest"] = rng.normal(0, load_constants().income.business_year_sd, len(state.first))


def _earn(
    state: State, rng: Rng, age: Array, year: int, season: int, money: SimpleNamespace
) -> None:
    p, h, c = state.persons, state.households, load_constants().income
    passed = year - load_constants().base_year
    present = p["status"] == PRESENT
    share = HARVEST_MONTHS.get(season, 0.0)
    if share:
        scale = np.exp(h["farm"] + 0.6 * h["ability"] + h["harvest"] + state.villages["prosperity"][h["village"]])
        hands = np.minimum(state.sum_by_household(present & (age >= ADULT) & (age < 75)), 2) / 2
        level = (c.business.median + c.business.per_mu * h["land"]) * scale * (0.25 + 0.75 * hands)
        level *= np.where(h["failed"] > 0, 0.15, 1.0) * np.where(h["drought"] > 0, 0.65, 1.0)
        level *= np.where(h["enterprise"], 1.1, 1.0) * (1 + c.business_growth) ** passed
        money.business = level * share
        money.business_cost = money.business * c.business.cost
    if season == MONTHS:
        dividend = np.where(h["cooperative"] | (h["lifted"] & h["enterprise"]), c.property.dividend, 0)
        richness = np.clip(state.villages["income"][h["village"]] / 150000, 0.3, 3)
        money.property = c.property.median * np.exp(h["ability"]) + dividend * richness
    growth = (1 + c.transfer_growth) ** passed
    old = state.sum_by_household(present & (age >= ELDERLY) & p["insured_pension"])
    alone = state.sum_by_household(present & (age < ELDERLY)) == 0
    grants = c.subsidy + c.pension * old + c.remittance * (alone & (old > 0)) * np.exp(h["ability"])
    money.transfer = money.transfer + (grants + 0.0) * growth + h["dibao"] + np.maximum(h["help"], 0)


def _repay(state: State, rng: Rng, money: SimpleNamespace, log: EventLog | None) -> None:
    h = state.households
    h["loan_since"] += 1
    due = (h["loan"] > 0) & (h["loan_since"] >= 36)
    poor = h["ratio"] < 1.5
    pays = due & (rng.random(len(due)) < np.where(poor, 0.6, 0.95))
    h["overdue"] = np.where(due & ~pays, h["overdue"] + 30, 0)
    h["loan"] = np.where(pays, 0, h["loan"])
    fresh = h["lifted"] & h["active"] & (h["loan"] == 0) & (rng.random(len(due)) < 0.003)
    h["loan"] = np.where(fresh, 30000, h["loan"])
    h["loan_since"] = np.where(fresh, 0, h["loan_since"])
    if log is not None:
        who = np.flatnonzero((h["loan"] > 0) & (h["loan_since"] % 3 == 0) | pays)
        log.add("loan", state.month, who, balance=h["loan"][who], overdue=h["overdue"][who],
                since=h["loan_since"][who])
