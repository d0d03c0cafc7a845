"""Hardship in a simulated county: who is in it, who looks, who is identified, helped and cleared."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from poverty_risk.datasets.events import EventLog, calendar
from poverty_risk.datasets.population import (
    MONTHS,
    PRESENT,
    Array,
    State,
    line_of,
    load_constants,
)

__all__ = ["RISK_TYPES", "find_failing", "review_month"]

Rng = np.random.Generator
ACCOUNT_MONTH = 9
"""The yearly account covers October to September."""

RISK_TYPES = (
    "illness",
    "disability",
    "schooling",
    "disaster",
    "accident",
    "job_loss",
    "industry_failure",
    "labour_shortage",
    "housing",
    "water",
    "other",
)


def find_failing(state: State) -> dict[str, Array]:
    """Whether each guarantee fails for each household now."""
    return {
        "housing": state.households["grade"] >= 2,
        "water": ~state.households["water"],
        "schooling": state.sum_by_household(state.persons["dropped"].astype(np.int64)) > 0,
        "insurance": state.households["uninsured"] > 0,
    }


def _account(state: State) -> SimpleNamespace:
    """The last 12 months as a reviewer would count them."""
    size = np.maximum(state.sum_by_household((state.persons["status"] == PRESENT).astype(int)), 1)
    line = line_of([calendar(state.month)[0]])[calendar(state.month)[0]]
    sums = {name: state.year_sum(name) for name in state.rolling}
    net = (
        sums["wage"]
        + sums["business"]
        - sums["business_cost"]
        + sums["property"]
        + sums["transfer"]
    )
    rigid = sums["medical"] + sums["education"] + sums["loss"]
    return SimpleNamespace(
        size=size,
        line=line,
        sums=sums,
        net=net,
        rigid=rigid,
        ratio=net / size / line,
        reference=(net + sums["claims"] - rigid) / size / line,
    )


def _hardship(state: State, account: SimpleNamespace, failing: dict[str, Array]) -> Array:
    c = load_constants().monitoring
    income = c.income.weight * np.clip((1 - account.ratio) / c.income.width, 0, 1.5)
    burden = account.rigid / np.maximum(account.net, 1.0)
    rigid = np.clip((burden - c.rigid.above) / c.rigid.width, 0, 1.5)
    rigid *= account.reference < c.rigid.reference_below
    before = state.past_ratio[state.month % MONTHS]
    fall = 1 - account.ratio / np.maximum(before, 0.01)
    drop = np.clip((fall - c.drop.above) / c.drop.width, 0, 1.0)
    drop *= account.ratio < c.drop.ratio_below
    guarantees = (
        c.house * failing["housing"]
        + c.water * failing["water"]
        + c.dropout * failing["schooling"]
        + c.uninsured * failing["insurance"]
    )
    return np.asarray(income + rigid + drop + guarantees - state.households["coping"])


def review_month(
    state: State,
    rng: Rng,
    money: SimpleNamespace,
    log: EventLog | None,
    *,
    identifies: bool = True,
) -> Array:
    """Let the month be reviewed: visits, identification, help and clearing.

    Returns
    -------
    ndarray
        Each household's chance of being newly identified in this month, given its state before
        anybody looks. With ``identifies=False`` nobody does: the chances alone are wanted.
    """
    c, h = load_constants().monitoring, state.households
    account, failing = _account(state), find_failing(state)
    h["hardship"] = hardship = _hardship(state, account, failing)
    free = h["active"] & (h["monitored_since"] < 0)
    recognised = np.where(free, np.clip(hardship, 0, 1) * c.recognised, 0.0)
    reasons = _reasons_to_look(state, hardship)
    chance = recognised * (1 - np.prod([1 - share for share in reasons.values()], axis=0))
    if identifies:
        looks = {name: rng.random(len(share)) < share for name, share in reasons.items()}
        found = np.any(list(looks.values()), axis=0) & (rng.random(len(chance)) < recognised)
        # Drawn whether or not anybody writes it down, so that a life can be lived again.
        noticed = found | ((hardship > 0) & (rng.random(len(chance)) < 0.7))
        _note_visits(state, looks, noticed, log)
        _identify(state, np.flatnonzero(found), account, failing, log)
    _support(state, rng, account, log)
    _clear(state, rng, account, failing, log)
    h["alerted"] = rng.random(len(chance)) < np.minimum(money.alert, 0.95)
    if log is not None and calendar(state.month)[1] == ACCOUNT_MONTH:
        who = np.flatnonzero(h["active"])
        log.add(
            "account",
            state.month,
            who,
            size=account.size[who],
            **{name: values[who] for name, values in account.sums.items()},
        )
    state.past_ratio[state.month % MONTHS] = account.ratio
    h["ratio"] = account.ratio
    return np.asarray(chance)


def _reasons_to_look(state: State, hardship: Array) -> dict[str, Array]:
    """Chance that somebody looks this month, by why: nobody is identified where no one does."""
    c, h = load_constants(), state.households
    key = h["lifted"] | (h["times_identified"] > 0)
    routine = state.villages["diligence"][h["village"]] * np.where(
        key, c.places.diligence_lifted, 1.0
    )
    return {
        "alert": np.where(h["alerted"], 1.0, 0.0),
        "declared": c.monitoring.declared * np.clip(hardship, 0, 1),
        "random": np.full(len(routine), c.records.random_visits),
        "routine": np.clip(np.where(h["monitored_since"] >= 0, 0.8, routine), 0, 0.95),
    }


def _note_visits(
    state: State, looks: dict[str, Array], noticed: Array, log: EventLog | None
) -> None:
    if log is None:
        return
    # A household that asks for help is visited like one that a department points to.
    for purpose, mask in (
        ("alert", looks["alert"] | looks["declared"]),
        ("random", looks["random"]),
        ("routine", looks["routine"]),
    ):
        who = np.flatnonzero(mask & state.households["active"])
        log.add("visit", state.month, who, purpose=purpose, found=noticed[who])


def _main_reason(
    state: State, who: Array, account: SimpleNamespace, failing: dict[str, Array]
) -> Array:
    """Index into RISK_TYPES of these households' main reasons."""
    sums = {name: values[who] for name, values in account.sums.items()}
    h = {name: state.households[name][who] for name in ("accident", "failed")}
    failing = {name: values[who] for name, values in failing.items()}
    able = state.sum_by_household(state.persons["working"].astype(int))[who]
    disabled = state.sum_by_household((state.persons["disability"] > 0).astype(int))[who]
    before = state.past_ratio[state.month % MONTHS][who]
    scale = np.maximum(account.line * account.size[who], 1.0)
    parts = {
        "illness": sums["medical"] / scale,
        "disability": disabled * 0.2,
        "schooling": sums["education"] / scale + failing["schooling"],
        "disaster": np.where(h["accident"] > 0, 0, sums["loss"]) / scale * 0.8,
        "accident": np.where(h["accident"] > 0, sums["loss"], 0) / scale * 0.8,
        "job_loss": np.clip(before - account.ratio[who], 0, 1) * (able > 0) * 0.25,
        "industry_failure": (h["failed"] > 0) * 0.4,
        "labour_shortage": (able == 0) * 0.15,
        "housing": failing["housing"] * 0.5,
        "water": failing["water"] * 0.4,
        "other": np.full(len(able), 0.05),
    }
    return np.asarray(np.argmax(np.stack([parts[name] for name in RISK_TYPES]), axis=0))


def _identify(
    state: State,
    found: Array,
    account: SimpleNamespace,
    failing: dict[str, Array],
    log: EventLog | None,
) -> None:
    c, h = load_constants().monitoring, state.households
    if not len(found):
        return
    ratio = account.ratio[found]
    short = np.maximum(c.helped.transfer_to - ratio, 0.03)
    h["monitored_since"][found] = state.month
    h["times_identified"][found] += 1
    h["help"][found] = short * account.line * account.size[found] / MONTHS
    year_before = _year_before(state, found)
    paid = c.helped.medical * account.sums["medical"][found]
    state.rolling["claims"][state.month % MONTHS][found] += paid
    if log is None:
        return
    category = np.where(ratio >= 1, "sudden", np.where(h["lifted"][found], "unstable", "marginal"))
    reason = np.array(RISK_TYPES)[_main_reason(state, found, account, failing)]
    log.add("identified", state.month, found, category=category, reason=reason)
    month_help = h["help"][found]
    log.add("help", state.month, found, amount=month_help, medical=paid)
    log.add(
        "rolling_account",
        state.month,
        found,
        size=account.size[found],
        **year_before,
    )


def _year_before(state: State, who: Array) -> dict[str, Array]:
    """The 12 months before this one: the account that is made up when a household is identified."""
    slot = state.month % MONTHS
    return {
        name: ring.take(who, axis=1).sum(axis=0) - ring[slot][who] + state.year_ago[name][who]
        for name, ring in state.rolling.items()
    }


def _support(state: State, rng: Rng, account: SimpleNamespace, log: EventLog | None) -> None:
    """Social assistance outside the mechanism: tops up part of those under the line."""
    h, c = state.households, load_constants().income.dibao
    draw = rng.random(len(account.ratio))
    poor = (account.ratio < c.below) & h["active"]
    joins = poor & (draw < c.enrolled_per_month)
    ends = (h["dibao"] > 0) & (draw > 1 - c.ends_per_month) & (account.ratio > 1.5)
    amount = np.maximum(c.to - account.ratio, 0.05) * account.line * account.size / MONTHS
    h["dibao"] = np.where(joins, h["dibao"] + amount, np.where(ends, 0.0, h["dibao"]))
    if log is not None:
        who = np.flatnonzero(joins)
        log.add("dibao", state.month, who, amount=amount[who])
        log.add("dibao_end", state.month, np.flatnonzero(ends))


def _clear(
    state: State,
    rng: Rng,
    account: SimpleNamespace,
    failing: dict[str, Array],
    log: EventLog | None,
) -> None:
    c, h = load_constants().monitoring, state.households
    waited = (h["monitored_since"] >= 0) & (state.month - h["monitored_since"] >= c.least_months)
    solid = (account.reference > 1.1) & ~failing["housing"] & ~failing["water"]
    draw = rng.random(len(waited))
    cleared = np.flatnonzero(waited & solid & (draw < c.cleared_per_month))
    # Part of the help goes on as ordinary social assistance.
    more = np.maximum(0.7 * h["help"][cleared] - h["dibao"][cleared], 0.0)
    h["dibao"][cleared] += more
    h["help"][cleared] = 0.0
    h["monitored_since"][cleared] = -1
    if log is not None:
        log.add("cleared", state.month, cleared)
        log.add("dibao", state.month, cleared[more > 0], amount=more[more > 0])
