"""What a simulated household lives on: work, farm, transfers, loans; and what strikes it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from poverty_risk.datasets.events import EventLog, monthly, name_new_heads, note_persons
from poverty_risk.datasets.population import (
    ADULT,
    DEAD,
    ELDERLY,
    MONTHS,
    ORDINARY,
    PRESENT,
    SCHOOL_YEARS,
    SKILLED,
    WORK_PLACES,
    Array,
    State,
    age_years,
    labour_capacity,
    load_constants,
    lognormal,
)

__all__ = ["earn", "repay", "suffer_shocks", "wear_out", "work"]

Rng = np.random.Generator
FLOOD_MONTHS = (7, 8, 9)
HARVEST_MONTHS = {6: 0.25, 7: 0.1, 9: 0.2, 10: 0.35, 12: 0.1}
"""Share of the year's farm and trade income that comes in a month."""

HARVEST_SEASON = 5
"""When the luck of the new farming year is drawn."""


def work(
    state: State,
    rng: Rng,
    age: Array,
    year: int,
    season: int,
    money: SimpleNamespace,
    log: EventLog | None,
) -> None:
    """Jobs are lost and found; wages are earned."""
    p, c = state.persons, load_constants().work
    if state.slump:
        state.slump -= 1
    elif rng.random() < monthly(c.bad_season.per_year):
        state.slump = int(c.bad_season.months)
    able = np.isin(labour_capacity(state, age), (SKILLED, ORDINARY)) & (p["status"] == PRESENT)
    able &= state.households["active"][p["household"]]
    loses = _change_jobs(state, rng, able, age, season)
    wage = _pay_wages(state, rng, year, season)
    np.add.at(money.wage, p["household"], wage)
    # Whoever left a public post lost no job of the market: the office itself ended it.
    out = np.flatnonzero(loses & able & ~p["public_post"])
    p["public_post"] &= p["working"]
    np.add.at(money.alert, p["household"][out], load_constants().monitoring.alert.job)
    if log is not None:
        seen = np.flatnonzero(p["wants_work"] & (p["status"] == PRESENT) & (able | loses))
        log.add(
            "work",
            state.month,
            seen,
            worked=p["working"][seen],
            place=p["place"][seen],
            wage=wage[seen],
            public_post=p["public_post"][seen],
        )
        log.add("job_loss", state.month, out)


def _change_jobs(state: State, rng: Rng, able: Array, age: Array, season: int) -> Array:
    """Who loses a job this month; others find one."""
    p, c, slump = state.persons, load_constants().work, state.slump > 0
    draw = rng.random(len(age))
    lost_rate = c.lost_per_month * (c.bad_season.lost if slump else 1.0)
    lost_rate *= 1.6 if season in (1, 2) else 1.0
    loses = p["working"] & ((draw < lost_rate) | ~able)
    helped = state.households["help"][p["household"]] > 0
    found_rate = (
        c.found_per_month * (c.bad_season.found if slump else 1.0) * np.where(age > 50, 0.5, 1.0)
    )
    found_rate = found_rate + load_constants().monitoring.helped.job * helped
    finds = able & p["wants_work"] & ~p["working"] & (draw < found_rate)
    p["working"] = (p["working"] & ~loses) | finds
    return np.asarray(loses)


def _pay_wages(state: State, rng: Rng, year: int, season: int) -> Array:
    """The month's wage of each person, 0 without work."""
    p, c = state.persons, load_constants().work
    places = np.array([getattr(c.monthly_wage, name) for name in WORK_PLACES])
    growth = (1 + c.wage_growth) ** (year - load_constants().base_year)
    level = state.households["ability"][p["household"]] + p["quality"]
    level = level + c.per_school_year * (SCHOOL_YEARS[p["education"]] - 8)
    worker = np.flatnonzero(p["working"])
    paid = places[p["place"][worker]] * growth * np.exp(level[worker])
    paid = np.where(p["public_post"][worker], 700 * growth, paid)
    paid *= np.exp(rng.normal(0, 0.08, len(worker))) * (0.6 if season == 2 else 1.0)
    wage = np.zeros(len(p["working"]))
    wage[worker] = paid
    return wage


def suffer_shocks(
    state: State, rng: Rng, season: int, money: SimpleNamespace, log: EventLog | None
) -> None:
    """Floods, landslides, fires, droughts, accidents, failed projects."""
    h, v, c = state.households, state.villages, load_constants().shocks
    alert = load_constants().monitoring.alert
    size = len(state.first)
    draws = rng.random((4, size))
    wet = _flood(state, rng, season, draws[0], log)
    for kind, who in (
        ("flood", wet),
        ("geological", np.flatnonzero((draws[1] < monthly(c.geological)) & h["active"])),
        ("fire", np.flatnonzero((draws[2] < monthly(c.fire)) & h["active"])),
    ):
        loss = lognormal(rng, c.flood_loss if kind == "flood" else c.other_loss, len(who))
        _lose(state, who, kind, loss, alert.disaster, money, log)
    _meet_accidents(state, rng, money, log)
    fails = np.flatnonzero((draws[3] < monthly(c.industry_failure)) & h["active"])
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


def _flood(state: State, rng: Rng, season: int, draw: Array, log: EventLog | None) -> Array:
    """Households hit by the floods of the month, which share villages."""
    h, v, c = state.households, state.villages, load_constants().shocks
    flooded = np.zeros(len(state.first), dtype=bool)
    if season in FLOOD_MONTHS:
        floods = rng.random(len(v["flood"])) < v["flood"] / len(FLOOD_MONTHS)
        flooded = floods[h["village"]] & (draw < c.flood_hit * h["exposure"])
    wet = np.flatnonzero(flooded & h["active"])
    damaged = wet[rng.random(len(wet)) < c.flood_house]
    h["grade"][damaged] = np.maximum(h["grade"][damaged], rng.choice([2, 3], len(damaged)))
    if log is not None:
        log.add(
            "inspected",
            state.month,
            damaged,
            grade=h["grade"][damaged],
            water=h["water"][damaged],
        )
    return wet


def _meet_accidents(state: State, rng: Rng, money: SimpleNamespace, log: EventLog | None) -> None:
    p, c = state.persons, load_constants().shocks
    alert = load_constants().monitoring.alert
    hurt = np.flatnonzero(p["working"] & (rng.random(len(p["working"])) < monthly(c.accident)))
    outcome = rng.random(len(hurt))
    crippled, killed = hurt[outcome < 0.2], hurt[outcome > 0.95]
    p["disability"][crippled] = rng.choice([1, 2, 3], len(crippled))
    p["status"][killed] = DEAD
    p["working"][np.concatenate([crippled, killed])] = False
    gone = np.zeros(len(p["working"]), dtype=bool)
    gone[killed] = True
    name_new_heads(state, gone)
    loss = lognormal(rng, c.accident_cost, len(hurt))
    state.households["accident"] = np.maximum(state.households["accident"] - 1, 0)
    state.households["accident"][p["household"][hurt]] = MONTHS
    _lose(state, p["household"][hurt], "accident", loss, alert.accident, money, log)
    note_persons(state, np.concatenate([crippled, killed]), age_years(state), log)


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


def wear_out(state: State, rng: Rng, season: int, log: EventLog | None) -> None:
    """Houses and water supplies fail and are repaired."""
    h, v, c = state.households, state.villages, load_constants().guarantees
    draw = rng.random((2, len(state.first)))
    grade = h["grade"]
    worsen = np.array([c.grade_b, c.grade_c, c.grade_d, 0.0])[grade] / MONTHS
    repaired = (grade >= 2) & (draw[0] > 1 - np.where(h["help"] > 0, 0.35, c.repaired_per_month))
    h["grade"] = np.where(repaired, 0, grade + (draw[0] < worsen)).astype(np.int8)
    failing = rng.random(len(v["flood"])) < monthly(load_constants().places.water_failure_per_year)
    own = draw[1] < monthly(c.water_household)
    restored = ~h["water"] & (draw[1] > 1 - np.where(h["help"] > 0, 0.6, 0.3))
    shared = failing[h["village"]] & (draw[1] < 0.3)
    h["water"] = (h["water"] | restored) & ~(own | shared)
    if log is not None:
        broken = np.flatnonzero((h["grade"] > grade) & (h["grade"] >= 2) | own | shared)
        log.add(
            "inspected", state.month, broken, grade=h["grade"][broken], water=h["water"][broken]
        )
    if season == HARVEST_SEASON:
        h["harvest"] = rng.normal(0, load_constants().income.business_year_sd, len(state.first))


def earn(state: State, age: Array, year: int, season: int, money: SimpleNamespace) -> None:
    """Farm and trade, dividends and transfers of the month."""
    p, h, c = state.persons, state.households, load_constants().income
    passed = year - load_constants().base_year
    present = p["status"] == PRESENT
    share = HARVEST_MONTHS.get(season, 0.0)
    if share:
        scale = np.exp(
            h["farm"]
            + 0.6 * h["ability"]
            + h["harvest"]
            + state.villages["prosperity"][h["village"]]
        )
        hands = np.minimum(state.sum_by_household(present & (age >= ADULT) & (age < 75)), 2) / 2
        level = (c.business.median + c.business.per_mu * h["land"]) * scale * (0.25 + 0.75 * hands)
        level *= np.where(h["failed"] > 0, 0.15, 1.0) * np.where(h["drought"] > 0, 0.65, 1.0)
        level *= np.where(h["enterprise"], 1.1, 1.0) * (1 + c.business_growth) ** passed
        money.business = level * share
        money.business_cost = money.business * c.business.cost
    if season == MONTHS:
        dividend = np.where(
            h["cooperative"] | (h["lifted"] & h["enterprise"]), c.property.dividend, 0
        )
        richness = np.clip(state.villages["income"][h["village"]] / 150000, 0.3, 3)
        money.property = c.property.median * np.exp(h["ability"]) + dividend * richness
    growth = (1 + c.transfer_growth) ** passed
    old = state.sum_by_household(present & (age >= ELDERLY) & p["insured_pension"])
    alone = state.sum_by_household(present & (age < ELDERLY)) == 0
    grants = c.subsidy + c.pension * old + c.remittance * (alone & (old > 0)) * np.exp(h["ability"])
    money.transfer = money.transfer + grants * growth + h["dibao"] + np.maximum(h["help"], 0)


def repay(state: State, rng: Rng, log: EventLog | None) -> None:
    """Microcredit: new loans, repayment, overdue days."""
    h = state.households
    h["loan_since"] += 1
    due = (h["loan"] > 0) & (h["loan_since"] >= 36)
    poor = h["ratio"] < 1.5
    pays = due & (rng.random(len(due)) < np.where(poor, 0.6, 0.95))
    h["overdue"] = np.where(due & ~pays, h["overdue"] + 30, 0)
    h["loan"] = np.where(pays, 0, h["loan"])
    # Not in the month that closes the old one, whose closing would then stay unrecorded.
    fresh = h["lifted"] & h["active"] & (h["loan"] == 0) & ~pays & (rng.random(len(due)) < 0.003)
    h["loan"] = np.where(fresh, 30000, h["loan"])
    h["loan_since"] = np.where(fresh, 0, h["loan_since"])
    if log is not None:
        who = np.flatnonzero((h["loan"] > 0) & (h["loan_since"] % 3 == 0) | pays)
        log.add(
            "loan",
            state.month,
            who,
            balance=h["loan"][who],
            overdue=h["overdue"][who],
            since=h["loan_since"][who],
        )
