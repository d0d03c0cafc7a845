"""Some consistency rules recomputed in pandas, household by household, from the rule's words.

It shares no code with the engine: its own reading of corrections and of what was known, plain loops.
Slow, and short enough to be checked by eye.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from poverty_risk import HistoryTables

Found = tuple[str, str | None, pd.Timestamp]


class ConsistencyOracle:
    """Recomputes rules over what was known of one history before a date."""

    def __init__(self, tables: HistoryTables, as_of: str, parameters: dict[str, float]) -> None:
        self.tables, self.as_of, self.p = tables, pd.Timestamp(as_of), parameters
        self.frames = {name: self._known(name) for name in tables.names}
        self.by_household = {
            name: dict(iter(frame.groupby("household_id")))
            for name, frame in self.frames.items()
            if "household_id" in frame
        }

    def _known(self, name: str) -> pd.DataFrame:
        frame, key = self.tables[name], list(self.tables.schema.tables[name].key)
        frame = frame[frame["known_date"] < self.as_of]
        frame = frame.sort_values("known_date", kind="stable").drop_duplicates(key, keep="last")
        return frame.sort_index()

    def find(self, code: str) -> list[Found]:
        """Findings of a rule: household, person (or None), event date."""
        rule: Callable[[], Iterator[Found]] = getattr(self, code.lower())
        return sorted(rule(), key=str)

    def of(self, name: str, household: str) -> pd.DataFrame:
        """Records of one household."""
        return self.by_household[name].get(household, self.frames[name].iloc[:0])

    def rows(self, name: str, **wanted: object) -> Iterator[pd.Series]:
        """Records of a table, one after the other."""
        frame = self.frames[name]
        for column, value in wanted.items():
            frame = frame[frame[column] == value]
        for _, row in frame.iterrows():
            yield row

    def age_days(self, row: pd.Series) -> int:
        return (self.as_of - row["event_date"]).days

    def last_income(self, row: pd.Series) -> float | None:
        """Net income per person of the last account in the 460 days up to the record."""
        accounts = self.of("income", row["household_id"])
        days = (accounts["event_date"] - row["event_date"]).dt.days
        accounts = accounts[(days <= 0) & (days >= -self.p["account_days"])]
        earned = accounts["wage"] + accounts["business"] - accounts["business_cost"]
        each = (earned + accounts["property"] + accounts["transfer"]) / accounts["members"]
        each = each.dropna()
        return None if each.empty else float(each.iloc[-1])

    def members_at(self, household: str, day: pd.Timestamp) -> pd.DataFrame:
        """The members present on a day, as they were then."""
        persons = self.of("person", household)
        persons = persons[persons["event_date"] <= day].drop_duplicates("person_id", keep="last")
        return persons[persons["status"] == "present"]

    def k001(self) -> Iterator[Found]:
        for row in self.rows("monitoring", status="identified"):
            if self.age_days(row) <= self.p["measure_days"] + self.p["lag_days"]:
                continue
            help_given = self.of("assistance", row["household_id"])
            days = (help_given["event_date"] - row["event_date"]).dt.days
            if not (days.abs() <= self.p["measure_days"]).any():
                yield row["household_id"], None, row["event_date"]

    def k002(self) -> Iterator[Found]:
        for row in self.rows("monitoring", status="cleared"):
            before = self.of("monitoring", row["household_id"])
            before = before[before["status"] == "identified"]["event_date"]
            before = before[before <= row["event_date"]]
            before = before[before.dt.year * 100 + before.dt.month >= self.p["clear_from"]]
            if len(before) and (row["event_date"] - before.max()).days < self.p["clear_days"]:
                yield row["household_id"], None, row["event_date"]

    def k004(self) -> Iterator[Found]:
        line = self.tables.line or {}
        for row in self.rows("monitoring", status="cleared"):
            income = self.last_income(row)
            if income is not None and income < line[row["event_date"].year]:
                yield row["household_id"], None, row["event_date"]

    def k008(self) -> Iterator[Found]:
        for row in self.rows("monitoring", status="identified", risk_type="illness"):
            bills = self.of("medical_bill", row["household_id"])
            days = (bills["event_date"] - row["event_date"]).dt.days
            near = (days <= self.p["measure_days"]) & (days >= -self.p["bill_days"])
            if self.age_days(row) > self.p["lag_days"] and bills["out_of_pocket"][near].sum() == 0:
                yield row["household_id"], None, row["event_date"]

    def k009(self) -> Iterator[Found]:
        for row in self.rows("monitoring", status="identified", risk_type="labour_shortage"):
            members = self.members_at(row["household_id"], row["event_date"])
            workers = members["labour"].isin(["skilled", "ordinary"]).sum()
            if len(members) and workers > self.p["worker_share"] * len(members):
                yield row["household_id"], None, row["event_date"]

    def k010(self) -> Iterator[Found]:
        for row in self.rows("monitoring", status="identified"):
            income = self.last_income(row)
            recent = row["event_date"].year >= self.p["high_income_from"]
            if recent and income is not None and income > self.p["high_income"]:
                yield row["household_id"], None, row["event_date"]

    def k021(self) -> Iterator[Found]:
        for row in self.rows("income", window="annual"):
            if 0 < row["wage"] < self.p["placeholder"]:
                yield row["household_id"], None, row["event_date"]

    def k022(self) -> Iterator[Found]:
        parts = ["wage", "business", "business_cost", "property", "transfer"]
        for row in self.rows("income", window="annual"):
            others = self.of("income", row["household_id"])
            others = others[others["window"] == "annual"]
            days = (others["event_date"] - row["event_date"]).dt.days
            others = others[(days < -330) & (days > -400)]
            if (
                row["wage"] + row["business"] > 0
                and (others[parts] == row[parts]).all(axis=1).any()
            ):
                yield row["household_id"], None, row["event_date"]

    def k027(self) -> Iterator[Found]:
        for row in self.rows("income", window="annual"):
            present = len(self.members_at(row["household_id"], row["period_end"]))
            if present and row["members"] > 0 and present != row["members"]:
                yield row["household_id"], None, row["event_date"]

    def k029(self) -> Iterator[Found]:
        for row in self.rows("income", window="annual"):
            work = self.of("work", row["household_id"])
            inside = work["event_date"].between(row["period_start"], row["period_end"])
            paid = work["wage"][inside].sum()
            gap = paid - row["wage"]
            if paid > self.p["work_share"] * row["wage"] and gap > self.p["work_gap"]:
                yield row["household_id"], None, row["event_date"]

    def k041(self) -> Iterator[Found]:
        for household in self.by_household["person"]:
            members = self.members_at(household, self.as_of)
            if len(members) and members["is_head"].notna().all() and not members["is_head"].any():
                yield household, None, members["event_date"].iloc[-1]

    def k050(self) -> Iterator[Found]:
        for household in self.by_household["person"]:
            for _, row in self.members_at(household, self.as_of).iterrows():
                if pd.isna(row["birth_date"]):
                    yield household, row["person_id"], row["event_date"]

    def k062(self) -> Iterator[Found]:
        births = self.frames["person"].dropna(subset="birth_date")
        births = births.drop_duplicates("person_id", keep="last").set_index("person_id")
        work = self.frames["work"]
        work = work[work["worked"].eq(True)]
        years = (work["event_date"] - work["person_id"].map(births["birth_date"])).dt.days / 365.25
        for row in work[years > self.p["old_age"]].itertuples():
            yield row.household_id, row.person_id, row.event_date

    def k073(self) -> Iterator[Found]:
        seen = self.frames["schooling"]
        recent = (self.as_of - seen["event_date"]).dt.days <= self.p["bill_days"] + self.p[
            "lag_days"
        ]
        at_school = set(seen["person_id"][recent])
        for household in self.by_household["person"]:
            status = self.of("household", household)["status"]
            for _, row in self.members_at(household, self.as_of).iterrows():
                years = (self.as_of - row["birth_date"]).days / 365.25
                active = len(status) and status.iloc[-1] == "active"
                if active and 7.5 <= years < 15 and row["person_id"] not in at_school:
                    yield household, row["person_id"], row["event_date"]
