"""What an office's archive holds of a simulated county: late, incomplete, sometimes wrong.

Everything here reads the event log and draws from a generator of its own, so that how things are
recorded never changes what happens.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poverty_risk.datasets.events import EventLog, calendar, describe_persons
from poverty_risk.datasets.population import (
    MONTHS,
    PRESENT,
    Array,
    State,
    age_years,
    load_constants,
)

__all__ = ["NEVER", "Recorder", "Values", "number_texts", "pick"]

EDUCATION = np.array(["illiterate", "primary", "junior", "senior", "college", "bachelor"])
LABOUR = np.array(["none", "skilled", "ordinary", "weak", "lost"])
STATUS = np.array(["present", "present", "left", "deceased"])
EPOCH = 1970 * MONTHS

NEVER = np.iinfo(np.int64).max

Values = Any
"""An array of numpy or Arrow, or a pair of an array and where it is missing."""


def pick(words: Array | pa.Array, positions: Array) -> pa.Array:
    """Words by position; faster and smaller than fixed-width text of numpy."""
    return pa.array(words).take(pa.array(positions))


def number_texts(prefix: str, count: int, digits: int) -> pa.Array:
    """``prefix`` and the numbers from 1, filled with noughts."""
    numbers = pc.utf8_lpad(pa.array(np.arange(1, count + 1)).cast(pa.string()), digits, "0")
    return pc.binary_join_element_wise(prefix, numbers, "")


class Recorder:
    """Turns what happened into raw tables, with lags, gaps, doubles and mistakes.

    Parameters
    ----------
    first
        The state on the eve of the history.
    last
        The state at its end; persons and households keep their positions.
    log
        What happened in between.
    start, end
        First day of the history and day after its last.
    rng
        Draws of the recording only.
    """

    def __init__(
        self,
        first: State,
        last: State,
        log: EventLog,
        start: np.datetime64,
        end: np.datetime64,
        rng: np.random.Generator,
    ) -> None:
        self.first, self.last, self.log = first, last, log
        self.start, self.end, self.rng = start, end, rng
        self.spec = load_constants().records
        size = len(first.first)
        self.household_ids = number_texts("H", size, 7)
        persons = last.persons["household"]
        within = np.arange(len(persons)) - last.first[persons] + 1
        self.person_ids = pc.binary_join_element_wise(
            pick(self.household_ids, persons), pa.array(within).cast(pa.string()), "-"
        )
        townships = first.villages["township"]
        self.village_ids = number_texts("V", len(townships), 4)
        self.township_ids = pick(number_texts("T", int(townships.max()) + 1, 3), townships)
        self.there = first.households["active"]
        self.ended = np.full(size, NEVER)
        ends = log.collect("household_end")
        self.ended[ends["who"]] = ends["month"]
        # What an office covers and knows of somebody stays the same from record to record.
        self.coverage = rng.random(size)
        self.birth_unknown = rng.random(len(persons)) < self.spec.missing.birth_date

    @functools.cached_property
    def visit_days(self) -> Array:
        """The day of each logged visit: identification cannot come before the visit it rests on."""
        return self.days_in(self.events("visit", persons=False)["month"])

    def days_in(self, month: Array) -> Array:
        """A random day of each month (months since year 0)."""
        offset = self.rng.integers(0, 28, len(month))
        return np.asarray(self.first_day(month) + offset.astype("timedelta64[D]"))

    @staticmethod
    def first_day(month: Array) -> Array:
        """First day of each month."""
        return np.asarray((month - EPOCH).astype("datetime64[M]").astype("datetime64[D]"))

    @classmethod
    def last_day(cls, month: Array) -> Array:
        """Last day of each month."""
        return np.asarray(cls.first_day(month + 1) - np.timedelta64(1, "D"))

    def missing(self, values: Array, share: float) -> tuple[Array, Array]:
        """Values of which a share was never written down."""
        return values, self.rng.random(len(values)) < share

    def table(
        self,
        name: str,
        event_date: Array,
        columns: dict[str, Values],
        known_date: Array | None = None,
    ) -> pa.Table:
        """A raw table of what was known before the end, with doubles and impossible dates."""
        low, high = getattr(self.spec.lag_days, name)
        size = len(event_date)
        if known_date is None:
            lag = self.rng.integers(low, high + 1, size).astype("timedelta64[D]")
            known_date = event_date + lag
        known_date = known_date.copy()
        wrong = self.rng.random(size) < self.spec.impossible
        known_date[wrong] = event_date[wrong] - np.timedelta64(40, "D")
        content = {"event_date": event_date, "known_date": known_date} | columns
        arrays = {key: _to_arrow(values) for key, values in content.items()}
        kept = np.flatnonzero(known_date < self.end)
        doubled = kept[self.rng.random(len(kept)) < self.spec.duplicated]
        return pa.table(arrays).take(pa.array(np.concatenate([kept, doubled])))

    def events(self, kind: str, *, persons: bool) -> dict[str, Array]:
        """Logged events of households while they are in the county."""
        events = self.log.collect(kind)
        household = self.last.persons["household"][events["who"]] if persons else events["who"]
        kept = self.there[household] & (events["month"] <= self.ended[household])
        return {"household": household[kept]} | {k: v[kept] for k, v in events.items()}

    def household(self) -> pa.Table:
        """The household archive: records at the start, at the exit from poverty, and at the end."""
        h, spec = self.first.households, self.spec
        who = np.flatnonzero(self.there)
        year, begins = h["lifted_year"], self.first.month + 1
        # Whoever is lifted out after the start has no year of exit before it is over.
        december = year * MONTHS + 11
        later = h["lifted"] & (december >= begins) & (december < self.ended)
        exits = np.flatnonzero(self.there & later)
        ends = self.events("household_end", persons=False)
        everyone = np.concatenate([who, exits, ends["who"]])
        began = np.concatenate(
            [
                np.full(len(who), self.start),
                self.last_day(december[exits]),
                # Whatever else happened in the month of leaving happened before.
                self.last_day(ends["month"]),
            ]
        )
        status = np.concatenate([np.full(len(who) + len(exits), "active"), ends["status"]])
        village = h["village"][everyone]
        lifted = h["lifted"][everyone]
        not_yet = self.first_day(december[everyone]) > began
        columns = {
            "household_id": pick(self.household_ids, everyone),
            "township_id": pick(self.township_ids, village),
            "village_id": pick(self.village_ids, village),
            "status": status,
            "household_type": np.where(lifted, "lifted", "ordinary"),
            "lifted_year": (year[everyone], ~lifted | not_yet),
            "cultivated_land": self.missing(h["land"][everyone].round(1), spec.missing.land),
            "distance_to_road": h["road_distance"][everyone].round(1),
            "cooperative_member": h["cooperative"][everyone],
            "enterprise_link": h["enterprise"][everyone],
            "ethnic_minority": h["minority"][everyone],
        }
        return self.table("household", began, columns)

    def person(self) -> pa.Table:
        """The members: at the start, at every change that is reported, and once a year if changed."""
        reported = [self.events(kind, persons=True) for kind in ("person", "yearly_person")]
        parts = [self._initial_persons(), *reported]
        names = [name for name in parts[0] if name != "household"]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
        kept = self._changed(columns)
        columns = {name: values[kept] for name, values in columns.items()}
        who, month = columns["who"], columns["month"]
        # The start of the history is the first thing that is known of a member, a change comes
        # later, and nobody is written down before being born.
        changed = (month > self.first.month).astype("timedelta64[D]")
        event = np.maximum(self.days_in(month), self.start + changed)
        event = np.maximum(event, self._birth_days(who))
        return self.table("person", event, self._person_columns(who, columns))

    def _birth_days(self, who: Array) -> Array:
        # The day of birth belongs to the person, not to the record.
        day = (who * 7 % 27).astype("timedelta64[D]")
        return np.asarray(self.first_day(self.last.persons["birth"][who].astype(np.int64)) + day)

    def _initial_persons(self) -> dict[str, Array]:
        p = self.first.persons
        who = np.flatnonzero((p["status"] == PRESENT) & self.there[p["household"]])
        described = describe_persons(self.first, who, age_years(self.first))
        return {"who": who, "month": np.full(len(who), self.first.month), **described}

    @staticmethod
    def _changed(columns: dict[str, Array]) -> Array:
        """Records that say something new of a person, in the order of time."""
        order = np.lexsort((columns["month"], columns["who"]))
        # A month has one record, its last: days are drawn, and could turn two of them round.
        who, month = columns["who"][order], columns["month"][order]
        last = np.ones(len(order), dtype=bool)
        last[:-1] = (who[1:] != who[:-1]) | (month[1:] != month[:-1])
        order = order[last]
        state = np.column_stack(
            [columns[name][order] for name in columns if name not in ("who", "month")]
        )
        same = np.zeros(len(order), dtype=bool)
        same[1:] = (state[1:] == state[:-1]).all(axis=1)
        same[1:] &= columns["who"][order][1:] == columns["who"][order][:-1]
        return order[~same]

    def _person_columns(self, who: Array, seen: dict[str, Array]) -> dict[str, Values]:
        p, spec = self.last.persons, self.spec.missing
        grown = ~seen["in_school"] & (seen["education"] >= 0)
        return {
            "household_id": pick(self.household_ids, p["household"][who]),
            "person_id": pick(self.person_ids, who),
            "status": pick(STATUS, seen["status"]),
            "birth_date": (self._birth_days(who), self.birth_unknown[who]),
            "sex": np.where(p["woman"][who], "woman", "man"),
            "is_head": seen["head"],
            "education": (
                pick(EDUCATION, seen["education"]),
                ~grown | (self.rng.random(len(who)) < spec.education),
            ),
            "in_school": seen["in_school"],
            "labour": self.missing(pick(LABOUR, seen["labour"]), spec.labour),
            "chronic_illness": self.missing(seen["chronic"], spec.health),
            "severe_illness": self.missing(seen["severe"], spec.health),
            "disability_level": (seen["disability"], seen["disability"] == 0),
            "pension_insured": p["insured_pension"][who],
        }

    def village(self) -> pa.Table:
        """Villages by year, the year before the history included."""
        v = self.first.villages
        first, last = calendar(self.first.month + 1)[0] - 1, calendar(self.last.month)[0]
        years = np.arange(first, last + 1)
        size = len(v["remote"])
        year, village = np.repeat(years, size), np.tile(np.arange(size), len(years))
        households = np.bincount(self.first.households["village"][self.there], minlength=size)
        events = self.events("identified", persons=False)
        found = np.zeros((len(years), size), dtype=int)
        place = self.first.households["village"][events["who"]]
        when = events["month"] // MONTHS - first
        inside = when >= 0
        np.add.at(found, (when[inside], place[inside]), 1)
        growth = 1.06 ** (year - first)
        luck = np.exp(self.rng.normal(0, 0.15, len(year)))
        columns = {
            "village_id": pick(self.village_ids, village),
            "collective_income": (v["income"][village] * growth * luck).round(-2),
            "households": np.maximum(households[village], 1),
            "identified_households": found.ravel(),
            "paved_road": v["road"][village],
            "clinic": v["clinic"][village],
            "primary_school": v["school"][village],
            "environment_score": np.clip(
                v["governance"][village] + self.rng.normal(0, 4, len(year)), 0, 100
            ).round(),
            "points_list_score": np.clip(
                v["governance"][village] + self.rng.normal(0, 7, len(year)), 0, 100
            ).round(),
            "distance_to_county_seat": v["remote"][village].round(1),
        }
        return self.table("village", self.last_day(year * MONTHS + 11), columns)

    def monitoring(self) -> pa.Table:
        """Identification and clearing."""
        found = self.events("identified", persons=False)
        cleared = self.events("cleared", persons=False)
        who = np.concatenate([found["who"], cleared["who"]])
        month = np.concatenate([found["month"], cleared["month"]])
        is_cleared = np.arange(len(who)) >= len(found["who"])
        none = np.full(len(cleared["who"]), "")
        columns = {
            "household_id": pick(self.household_ids, who),
            "status": np.where(is_cleared, "cleared", "identified"),
            "category": (np.concatenate([found["category"], none]), is_cleared),
            "risk_type": (np.concatenate([found["reason"], none]), is_cleared),
        }
        days = self.days_in(month)
        days[~is_cleared] = self._decision_days(found["who"], found["month"])
        return self.table("monitoring", days, columns)

    def _decision_days(self, who: Array, month: Array) -> Array:
        """A day of the month, not before the first visit of the household in that month."""
        visits = self.events("visit", persons=False)
        seen = visits["who"] * (self.last.month + 1) + visits["month"]
        order = np.lexsort((self.visit_days, seen))
        wanted = who * (self.last.month + 1) + month
        at = np.searchsorted(seen[order], wanted)
        earliest = self.first_day(month)
        # Of the time before the history, visits are not on record.
        known = np.flatnonzero(at < len(order))
        known = known[seen[order[at[known]]] == wanted[known]]
        earliest[known] = self.visit_days[order[at[known]]]
        left = 28 - (earliest - self.first_day(month)).astype(int)
        later = np.floor(self.rng.random(len(who)) * left).astype("timedelta64[D]")
        return np.asarray(earliest + later)


def _to_arrow(values: Values) -> pa.Array:
    if isinstance(values, tuple):
        content, absent = values
        if isinstance(content, pa.Array):
            return pc.if_else(pa.array(~np.asarray(absent)), content, None)
        return pa.array(content, mask=np.asarray(absent))
    if isinstance(values, pa.Array):
        return values
    if values.dtype.kind == "M":
        return pa.array(values.astype("datetime64[D]"))
    return pa.array(values)
