"""The hidden state of a simulated county on its first day: villages, households, their members."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poverty_risk.declarations import read_yaml

__all__ = [
    "PRESENT",
    "State",
    "age_years",
    "draw_population",
    "labour_capacity",
    "line_of",
    "load_constants",
    "lognormal",
]

Array = NDArray[Any]
Columns = dict[str, Array]

UNBORN, PRESENT, LEFT, DEAD = range(4)
NO_LABOUR, SKILLED, ORDINARY, WEAK, LOST = range(5)
NO_STAGE, PRESCHOOL, COMPULSORY, SENIOR, VOCATIONAL, COLLEGE = range(6)
WORK_PLACES = ("village", "county", "province", "outside")
SCHOOL_YEARS = np.array([0, 6, 9, 12, 15, 16])
"""Years of schooling by education code: illiterate, primary, junior, senior, college, bachelor."""

ROLLING = (
    "wage",
    "business",
    "business_cost",
    "property",
    "transfer",
    "claims",
    "medical",
    "education",
    "loss",
)
"""What a household earned, was given and had to pay, by month, kept for 12 months."""

ELDERLY, ADULT, SCHOOL_AGE = 60, 16, 6
MONTHS = 12


@functools.cache
def load_constants() -> SimpleNamespace:
    """The constants of ``county.yaml``, by attribute."""
    path = Path(str(resources.files("poverty_risk.datasets") / "county.yaml"))
    constants: SimpleNamespace = _by_attribute(read_yaml(path))
    return constants


def _by_attribute(value: Any) -> Any:
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return SimpleNamespace(**{key: _by_attribute(item) for key, item in value.items()})
    return value


def line_of(years: Iterable[int]) -> dict[int, float]:
    """The monitoring line of the simulated county, yuan per person and year."""
    constants = load_constants()
    known: dict[int, float] = constants.line
    first, last, growth = min(known), max(known), 1 + constants.line_growth
    return {
        year: float(known[year])
        if year in known
        else round(known[last] * growth ** (year - last), -1)
        if year > last
        else round(known[first] * growth ** (year - first), -1)
        for year in years
    }


@dataclass
class State:
    """Everything that is true of the county at the end of a month.

    Parameters
    ----------
    month
        Months since year 0; the month that has just ended.
    persons, households, villages
        Columns by name. Persons are sorted by household.
    first
        Position of each household's first person.
    rolling
        The last 12 months by kind, shape (12, households).
    past_ratio
        Income relative to the line in each of the last 12 months, shape (12, households).
    slump
        Months of a county-wide slump of jobs that are left.
    year_ago
        The month that has just left `rolling`, by kind: an account of the 12 months before this one.
    """

    month: int
    persons: Columns
    households: Columns
    villages: Columns
    first: Array
    rolling: dict[str, Array] = field(default_factory=dict)
    past_ratio: Array = field(default_factory=lambda: np.zeros((MONTHS, 0)))
    slump: int = 0
    year_ago: dict[str, Array] = field(default_factory=dict)

    def copy(self) -> State:
        """An independent copy."""
        return State(
            self.month,
            {name: values.copy() for name, values in self.persons.items()},
            {name: values.copy() for name, values in self.households.items()},
            {name: values.copy() for name, values in self.villages.items()},
            self.first,
            {name: values.copy() for name, values in self.rolling.items()},
            self.past_ratio.copy(),
            self.slump,
            {name: values.copy() for name, values in self.year_ago.items()},
        )

    def sum_by_household(self, values: Array) -> Array:
        """Sum of a person column over each household."""
        total: Array = np.add.reduceat(values, self.first)
        return total

    def year_sum(self, name: str) -> Array:
        """The last 12 months of a kind, per household."""
        total: Array = self.rolling[name].sum(axis=0)
        return total


def age_years(state: State) -> Array:
    """Age of each person in years (negative before birth)."""
    return (state.month - state.persons["birth"]) / MONTHS


def lognormal(rng: np.random.Generator, spec: Any, size: int) -> Array:
    """Draws with a median and a standard deviation of the logarithm."""
    return np.asarray(spec.median * np.exp(rng.normal(0.0, spec.sd_log, size)))


def labour_capacity(state: State, age: Array, who: Array | None = None) -> Array:
    """Official labour capacity of each person, or of some, as a code."""
    p = state.persons
    if who is not None:
        needed = ("education", "disability", "chronic", "severe", "stage")
        p, age = {name: p[name][who] for name in needed}, age[who]
    capacity = np.where(p["education"] >= 3, SKILLED, ORDINARY)
    weak = (age >= 63) | (p["disability"] >= 3) | (p["chronic"] & (age >= 52))
    capacity = np.where(weak, WEAK, capacity)
    lost = (age >= 73) | ((p["disability"] >= 1) & (p["disability"] <= 2)) | (p["severe"] > 0)
    capacity = np.where(lost, LOST, capacity)
    return np.where((age < ADULT) | (p["stage"] > 0), NO_LABOUR, capacity)


def draw_population(n_households: int, month: int, rng: np.random.Generator) -> State:
    """Draw a county as it is at the end of a month."""
    villages = _draw_villages(n_households, rng)
    households = _draw_households(n_households, len(villages["remote"]), rng)
    persons, first = _draw_persons(households, month, rng)
    state = State(month, persons, households, villages, first)
    state.rolling = {name: np.zeros((MONTHS, n_households)) for name in ROLLING}
    state.year_ago = {name: np.zeros(n_households) for name in ROLLING}
    state.past_ratio = np.full((MONTHS, n_households), 2.0)
    _draw_health(state, rng)
    _draw_schooling(state, rng)
    _draw_work(state, rng)
    return state


def _draw_villages(n_households: int, rng: np.random.Generator) -> Columns:
    c = load_constants().places
    size = max(6, round(n_households / c.households_per_village))
    return {
        "township": np.arange(size) // c.villages_per_township,
        "remote": np.clip(rng.normal(c.remoteness_km.mean, c.remoteness_km.sd, size), 2, 110),
        "diligence": np.clip(rng.normal(c.diligence.mean, c.diligence.sd, size), 0.02, 0.4),
        "flood": np.clip(rng.normal(c.flood_per_year.mean, c.flood_per_year.sd, size), 0.003, 0.25),
        "income": lognormal(rng, c.collective_income, size),
        "road": rng.random(size) < c.road,
        "clinic": rng.random(size) < c.clinic,
        "school": rng.random(size) < c.school,
        "governance": np.clip(rng.normal(76, 9, size), 35, 99),
        "prosperity": rng.normal(0, 0.12, size),
    }


def _draw_households(size: int, n_villages: int, rng: np.random.Generator) -> Columns:
    c = load_constants().households
    lifted = rng.random(size) < c.lifted
    years, shares = zip(*c.lifted_years.items(), strict=True)
    # Villages differ in size; each has some households.
    village = np.sort(rng.integers(0, n_villages, size))
    relocated = rng.random(size) < c.relocated * np.where(lifted, 2.0, 0.55)
    return {
        "village": village,
        "lifted": lifted,
        "lifted_year": np.where(lifted, rng.choice(years, size, p=shares), 0),
        "ability": rng.normal(0, c.ability_sd, size) + c.lifted_ability * lifted,
        "fragility": np.exp(rng.normal(0, c.fragility_sd, size) - c.fragility_sd**2 / 2),
        "coping": np.clip(rng.normal(c.coping.mean, c.coping.sd, size), 0.0, 1.2),
        "exposure": rng.gamma(2.0, 0.5, size),
        "insured_loss": rng.random(size) < 0.5,
        "land": lognormal(rng, c.land, size),
        "road_distance": rng.gamma(2.0, 0.9, size),
        "cooperative": rng.random(size) < c.cooperative * np.where(lifted, 1.4, 0.8),
        "enterprise": rng.random(size) < c.enterprise,
        "minority": rng.random(size) < c.minority,
        "relocated": relocated,
        "centralised": relocated & (rng.random(size) < c.centralised),
        "farm": rng.normal(0, load_constants().income.business.sd_log, size),
        "grade": rng.choice(4, size, p=c.house_grades).astype(np.int8),
        "loan": np.where(
            lifted & (rng.random(size) < c.loan), rng.choice([20000, 30000, 50000], size), 0
        ),
        "loan_since": rng.integers(0, 36, size),
    } | _untroubled(size)


def _untroubled(size: int) -> Columns:
    """Households to which nothing has happened yet."""
    return {
        "harvest": np.zeros(size),
        "failed": np.zeros(size, dtype=np.int16),
        "accident": np.zeros(size, dtype=np.int16),
        "drought": np.zeros(size, dtype=np.int16),
        "water": np.ones(size, dtype=bool),
        "uninsured": np.zeros(size, dtype=np.int8),
        "active": np.ones(size, dtype=bool),
        "alerted": np.zeros(size, dtype=bool),
        "dibao": np.zeros(size),
        "overdue": np.zeros(size, dtype=np.int32),
        "monitored_since": np.full(size, -1),
        "times_identified": np.zeros(size, dtype=np.int16),
        "help": np.zeros(size),
        "hardship": np.zeros(size),
        "ratio": np.full(size, 2.0),
    }


def _draw_members(size: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Age, sex and presence of possible members, one row a household: head, spouse, children, elders."""
    c = load_constants().people
    head = np.clip(rng.normal(c.head_age.mean, c.head_age.sd, size), 23, 91)
    woman_head = rng.random(size) < 0.14
    ages, there = [head], [np.ones(size, dtype=bool)]
    spouse = rng.random(size) < c.spouse * np.clip(1.35 - head / 120, 0.2, 1.0)
    ages.append(np.clip(head + rng.normal(-2, 3, size), 20, 92))
    there.append(spouse)
    born = rng.poisson(c.children, size)
    for number in range(4):
        child = head - rng.uniform(22, 36, size)
        stays = np.where(child < 19, 1.0, np.where(child < 30, 0.5, 0.22))
        ages.append(child)
        there.append((number < born) & (child > 0) & (rng.random(size) < stays))
    for number in range(2):
        elder = head + rng.uniform(21, 31, size)
        ages.append(elder)
        keeps = c.elders * (1.0 if number == 0 else 0.45)
        there.append((head > 28) & (elder < 93) & (rng.random(size) < keeps))
    # A place for a child that is born later.
    young = (head < 38) & spouse
    ages.append(-rng.uniform(0, 6.5, size))
    there.append(young & (rng.random(size) < c.newborn * 2))
    age, mask = np.column_stack(ages), np.column_stack(there)
    woman = rng.random(age.shape) < 0.49
    woman[:, 0], woman[:, 1] = woman_head, ~woman_head
    return age, woman, mask


def _draw_persons(
    households: Columns, month: int, rng: np.random.Generator
) -> tuple[Columns, Array]:
    age, woman, mask = _draw_members(len(households["village"]), rng)
    size = len(mask)
    count = mask.sum(axis=1)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    household = np.repeat(np.arange(size), count)
    age, woman = age[mask], woman[mask]
    role = np.tile(np.arange(mask.shape[1]), size)[mask.ravel()]
    total = len(age)
    education = rng.choice(6, total, p=load_constants().people.education)
    # The old went to school for fewer years.
    education = np.where(age > 60, np.maximum(education - rng.integers(1, 3, total), 0), education)
    persons: Columns = {
        "household": household,
        "birth": np.asarray(month - np.round(age * MONTHS), dtype=np.int32),
        "woman": woman,
        "head": role == 0,
        "status": np.where(age < 0, UNBORN, PRESENT).astype(np.int8),
        "education": np.where(age < ADULT, 0, education).astype(np.int8),
        "quality": rng.normal(0, load_constants().work.person_sd, total),
        "wants_work": rng.random(total) < load_constants().work.wants,
        "insured_pension": rng.random(total) < 0.93,
        "chronic": np.zeros(total, dtype=bool),
        "severe": np.zeros(total, dtype=np.int16),
        "disability": np.zeros(total, dtype=np.int8),
        "stage": np.zeros(total, dtype=np.int8),
        "dropped": np.zeros(total, dtype=bool),
        "working": np.zeros(total, dtype=bool),
        "public_post": np.zeros(total, dtype=bool),
        "place": np.zeros(total, dtype=np.int8),
    }
    return persons, first


def _draw_health(state: State, rng: np.random.Generator) -> None:
    c, p = load_constants().health, state.persons
    age = np.maximum(age_years(state), 0)
    fragility = state.households["fragility"][p["household"]]
    onset = c.chronic.at_30 * np.exp(c.chronic.growth * (age - 30)) / c.chronic.growth
    p["chronic"] = rng.random(len(age)) < np.clip(onset * fragility, 0, 0.75)
    disabled = c.disabled_at_start.at_30 * np.exp(c.disabled_at_start.growth * (age - 30))
    has = rng.random(len(age)) < np.clip(disabled * np.sqrt(fragility), 0, 0.5)
    p["disability"] = np.where(
        has, rng.choice([1, 2, 3, 4], len(age), p=[0.12, 0.3, 0.33, 0.25]), 0
    )


def _draw_schooling(state: State, rng: np.random.Generator) -> None:
    p, age = state.persons, age_years(state)
    college = (age >= 18) & (age < 22) & (rng.random(len(age)) < 0.4)
    later = np.where(rng.random(len(age)) < 0.5, SENIOR, VOCATIONAL)
    goes_on = rng.random(len(age)) < load_constants().schooling.continue_senior
    stage = np.where((age >= 3) & (age < SCHOOL_AGE), PRESCHOOL, NO_STAGE)
    stage = np.where((age >= SCHOOL_AGE) & (age < 15.5), COMPULSORY, stage)
    stage = np.where((age >= 15.5) & (age < 18.5) & goes_on, later, stage)
    p["stage"] = np.where(college & (age >= 18.5), COLLEGE, stage).astype(np.int8)


def _draw_work(state: State, rng: np.random.Generator) -> None:
    p, age = state.persons, age_years(state)
    c = load_constants().work
    able = np.isin(labour_capacity(state, age), (SKILLED, ORDINARY)) & (p["status"] == PRESENT)
    p["working"] = able & p["wants_work"] & (rng.random(len(age)) < 0.82)
    shares = np.array([getattr(c.places, name) for name in WORK_PLACES])
    p["place"] = rng.choice(4, len(age), p=shares).astype(np.int8)
    lifted = state.households["lifted"][p["household"]]
    p["public_post"] = p["working"] & lifted & (rng.random(len(age)) < c.public_post)
    p["place"][p["public_post"]] = 0
