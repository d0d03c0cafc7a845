"""What an office's archive holds of a simulated county: late, incomplete, sometimes wrong.

Everything here reads the event log and draws from a generator of its own, so that how things are
recorded never changes what happens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from poverty_risk.datasets.events import EventLog, calendar, describe_persons
from poverty_risk.datasets.population import (
    MONTHS,
    PRESENT,
    Array,
    State,
    age_years,
    load_constants,
)

__all__ = ["Recorder", "Values"]

EDUCATION = np.array(["illiterate", "primary", "junior", "senior", "college", "bachelor"])
LABOUR = np.array(["none", "skilled", "ordinary", "weak", "lost"])
STATUS = np.array(["present", "present", "left", "deceased"])
EPOCH = 1970 * MONTHS

Values = Any
"""An array, or a pair of an array and where it is missing."""


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
        self.household_ids = np.char.add("H", np.char.zfill(np.arange(1, size + 1).astype(str), 7))
        persons = last.persons["household"]
        within = np.arange(len(persons)) - last.first[persons] + 1
        self.person_ids = np.char.add(
            np.char.add(self.household_ids[persons], "-"), within.astype(str)
        )
        villages = np.arange(len(first.villages["remote"]))
        self.village_ids = np.char.add("V", np.char.zfill((villages + 1).astype(str), 4))
        townships = first.villages["township"]
        self.township_ids = np.char.add("T", np.char.zfill((townships + 1).astype(str), 3))
        self.there = first.households["active"]

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
        """Logged events of households that are in the history; only who and when if there were none."""
        events = self.log.collect(kind)
        if not events:
            return {name: np.zeros(0, dtype=int) for name in ("household", "who", "month")}
        household = self.last.persons["household"][events["who"]] if persons else events["who"]
        kept = self.there[household]
        return {"household": household[kept]} | {k: v[kept] for k, v in events.items()}

    def household(self) -> pa.Table:
        """The household archive: one record at the start, one when a household ends."""
        h, spec = self.first.households, self.spec
        who = np.flatnonzero(self.there)
        ends = self.events("household_end", persons=False)
        month, gone = ends["month"], ends["who"]
        everyone = np.concatenate([who, gone])
        began = np.concatenate([np.full(len(who), self.start), self.days_in(month)])
        status = np.concatenate(
            [np.full(len(who), "active"), ends.get("status", np.zeros(0, "U9"))]
        )
        village = h["village"][everyone]
        lifted = h["lifted"][everyone]
        columns = {
            "household_id": self.household_ids[everyone],
            "township_id": self.township_ids[village],
            "village_id": self.village_ids[village],
            "status": status,
            "household_type": np.where(lifted, "lifted", "ordinary"),
            "lifted_year": (h["lifted_year"][everyone], ~lifted),
            "cultivated_land": self.missing(h["land"][everyone].round(1), spec.missing.land),
            "distance_to_road": h["road_distance"][everyone].round(1),
            "cooperative_member": h["cooperative"][everyone],
            "enterprise_link": h["enterprise"][everyone],
            "ethnic_minority": h["minority"][everyone],
        }
        return self.table("household", began, columns)

    def person(self) -> pa.Table:
        """The members: at the start, at every change that is reported, and once a year if changed."""
        parts = [self._initial_persons()]
        for kind in ("person", "yearly_person"):
            events = self.events(kind, persons=True)
            if len(events["who"]):
                parts.append(events)
        names = [name for name in parts[0] if name != "household"]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
        kept = self._changed(columns)
        columns = {name: values[kept] for name, values in columns.items()}
        who, month = columns["who"], columns["month"]
        # The start of the history is the first thing that is known of a member.
        event = np.maximum(self.days_in(month), self.start)
        return self.table("person", event, self._person_columns(who, columns))

    def _initial_persons(self) -> dict[str, Array]:
        p = self.first.persons
        who = np.flatnonzero((p["status"] == PRESENT) & self.there[p["household"]])
        described = describe_persons(self.first, who, age_years(self.first))
        return {"who": who, "month": np.full(len(who), self.first.month), **described}

    @staticmethod
    def _changed(columns: dict[str, Array]) -> Array:
        """Records that say something new of a person, in the order of time."""
        order = np.lexsort((columns["month"], columns["who"]))
        state = np.column_stack(
            [columns[name][order] for name in columns if name not in ("who", "month")]
        )
        same = np.zeros(len(order), dtype=bool)
        same[1:] = (state[1:] == state[:-1]).all(axis=1)
        same[1:] &= columns["who"][order][1:] == columns["who"][order][:-1]
        return order[~same]

    def _person_columns(self, who: Array, seen: dict[str, Array]) -> dict[str, Values]:
        p, spec = self.last.persons, self.spec.missing
        born = (p["birth"][who] - EPOCH).astype("datetime64[M]").astype("datetime64[D]")
        # The day of birth belongs to the person, not to the record.
        born = born + (who * 7 % 27).astype("timedelta64[D]")
        # Whether a birth date is known belongs to the person too.
        unknown = (np.random.default_rng(11).random(len(p["birth"])) < spec.birth_date)[who]
        grown = ~seen["in_school"] & (seen["education"] >= 0)
        return {
            "household_id": self.household_ids[p["household"][who]],
            "person_id": self.person_ids[who],
            "status": STATUS[seen["status"]],
            "birth_date": (born, unknown),
            "sex": np.where(p["woman"][who], "woman", "man"),
            "is_head": seen["head"],
            "education": (
                EDUCATION[seen["education"]],
                ~grown | (self.rng.random(len(who)) < spec.education),
            ),
            "in_school": seen["in_school"],
            "labour": self.missing(LABOUR[seen["labour"]], spec.labour),
            "chronic_illness": self.missing(seen["chronic"], spec.health),
            "severe_illness": self.missing(seen["severe"], spec.health),
            "disability_level": (seen["disability"], seen["disability"] == 0),
            "pension_insured": p["insured_pension"][who],
        }

    def village(self) -> pa.Table:
        """Villages by year, the year before the history included."""
        v = self.first.villages
        first, last = calendar(self.first.month)[0], calendar(self.last.month)[0]
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
            "village_id": self.village_ids[village],
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
        empty = np.zeros(0, dtype="U16")
        columns = {
            "household_id": self.household_ids[who],
            "status": np.where(is_cleared, "cleared", "identified"),
            "category": (np.concatenate([found.get("category", empty), none]), is_cleared),
            "risk_type": (np.concatenate([found.get("reason", empty), none]), is_cleared),
        }
        return self.table("monitoring", self.days_in(month), columns)


def _to_arrow(values: Values) -> pa.Array:
    if isinstance(values, tuple):
        content, absent = values
        return pa.array(content, mask=np.asarray(absent))
    if values.dtype.kind == "M":
        return pa.array(values.astype("datetime64[D]"))
    return pa.array(values)
