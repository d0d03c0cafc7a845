"""INDEC's columns and codes in words, after its record layout of the household and person files.

A code without a word (0: not asked; 9, 99: no answer) is missing.
"""

from __future__ import annotations

__all__ = [
    "AMOUNTS",
    "BENEFITS",
    "CONSTRUCTION",
    "DWELLING_CODES",
    "DWELLING_COUNTS",
    "DWELLING_FLAGS",
    "EDUCATION_LEVELS",
    "MEMBER_CODES",
    "MEMBER_FLAGS",
    "MONTHS_AT_LEAST",
    "NO_QUALIFICATION",
    "REGIONS",
    "SCHOOLING",
    "SEARCH_MONTHS",
    "STRATEGIES",
    "UNDEREMPLOYED",
    "WORKPLACE_SIZES",
    "WORKPLACE_SIZES_ROUGHLY",
]

REGIONS = {
    1: "greater_buenos_aires",
    40: "northwest",
    41: "northeast",
    42: "cuyo",
    43: "pampas",
    44: "patagonia",
}
"""REGION."""

DWELLING_CODES: dict[str, tuple[str, dict[int, str]]] = {
    "IV1": (
        "dwelling_type",
        {
            1: "house",
            2: "flat",
            3: "rented_room",
            4: "hotel_room",
            5: "not_built_for_living",
            6: "other_dwelling",
        },
    ),
    "IV3": (
        "floor",
        {1: "finished_floor", 2: "cement_floor", 3: "earth_floor", 4: "other_floor"},
    ),
    "IV4": (
        "roof",
        {
            1: "membrane_roof",
            2: "slab_roof",
            3: "tile_roof",
            4: "metal_sheet_roof",
            5: "fibre_cement_roof",
            6: "cardboard_roof",
            7: "cane_or_straw_roof",
            9: "roof_of_flats",
        },
    ),
    "IV6": (
        "water_place",
        {1: "piped_inside", 2: "outside_on_the_plot", 3: "outside_the_plot"},
    ),
    "IV7": (
        "water_source",
        {1: "public_network", 2: "motor_pump", 3: "hand_pump", 4: "other_water"},
    ),
    "IV9": (
        "toilet_place",
        {1: "toilet_inside", 2: "toilet_on_the_plot", 3: "toilet_outside_the_plot"},
    ),
    "IV10": ("toilet_kind", {1: "flush", 2: "bucket_flush", 3: "latrine"}),
    "IV11": (
        "drain",
        {1: "sewer", 2: "septic_tank", 3: "cesspit", 4: "hole_in_the_ground"},
    ),
    "II7": (
        "tenure",
        {
            1: "owner",
            2: "owner_without_land",
            3: "tenant",
            4: "pays_taxes_only",
            5: "through_work",
            6: "free_with_permission",
            7: "without_permission",
            8: "inheritance_open",
            9: "other_tenure",
        },
    ),
    "II8": (
        "cooking_fuel",
        {1: "piped_gas", 2: "bottled_gas", 3: "kerosene_wood_coal", 4: "other_fuel"},
    ),
    "II9": (
        "bath_use",
        {
            1: "own_bath",
            2: "bath_shared_in_dwelling",
            3: "bath_shared_between_dwellings",
            4: "no_bath",
        },
    ),
}
"""Columns of dwelling and tenure: name and words of the codes."""

DWELLING_COUNTS = {"IV2": ("rooms", 30), "II1": ("own_rooms", 30), "II2": ("bedrooms", 30)}
"""Numbers of rooms and the highest that is believed (99 is no answer)."""

DWELLING_FLAGS = {
    "IV5": "ceiling",
    "IV8": "toilet",
    "IV12_1": "near_dump",
    "IV12_2": "flood_zone",
    "IV12_3": "shanty_town",
    "II4_1": "kitchen",
    "II4_2": "laundry",
    "II4_3": "garage",
}
"""Dwelling: 1 yes, 2 no."""

STRATEGIES = {
    "V1": "lived_on_work",
    "V2": "lived_on_pension",
    "V21": "got_pension_bonus",
    "V22": "got_pension_arrears",
    "V3": "lived_on_severance",
    "V4": "lived_on_unemployment_insurance",
    "V5": "lived_on_cash_aid",
    "V6": "got_goods_from_institutions",
    "V7": "got_goods_from_people",
    "V8": "lived_on_rent",
    "V9": "lived_on_business_profit",
    "V10": "lived_on_interest",
    "V11": "lived_on_scholarship",
    "V12": "got_money_from_people",
    "V13": "spent_savings",
    "V14": "borrowed_from_people",
    "V15": "borrowed_from_banks",
    "V16": "bought_on_credit",
    "V17": "sold_belongings",
    "V18": "other_cash",
    "V19_A": "children_worked",
    "V19_B": "children_begged",
}
"""How the household lived in the last three months: 1 yes, 2 no."""

MEMBER_CODES: dict[str, tuple[str, dict[int, str]]] = {
    "CH03": (
        "relation",
        {
            1: "head",
            2: "spouse",
            3: "child",
            4: "child_in_law",
            5: "grandchild",
            6: "parent",
            7: "parent_in_law",
            8: "sibling",
            9: "other_relative",
            10: "not_related",
        },
    ),
    "CH07": (
        "marital",
        {1: "living_together", 2: "married", 3: "separated", 4: "widowed", 5: "single"},
    ),
    "CH08": (
        "health_cover",
        {
            1: "social_insurance",
            2: "private",
            3: "public_plan",
            4: "no_cover",
            12: "several",
            13: "several",
            23: "several",
            123: "several",
        },
    ),
    "CH10": ("schooling", {1: "attends", 2: "attended", 3: "never_attended"}),
    "ESTADO": (
        "activity",
        {1: "employed", 2: "unemployed", 3: "inactive", 4: "under_ten"},
    ),
    "CAT_OCUP": (
        "occupation",
        {1: "employer", 2: "own_account", 3: "employee", 4: "unpaid_family_worker"},
    ),
    "CAT_INAC": (
        "inactivity",
        {
            1: "retired",
            2: "lives_on_assets",
            3: "student",
            4: "homemaker",
            5: "under_six",
            6: "disabled",
            7: "other_inactive",
        },
    ),
    "PP04A": ("employer_sector", {1: "state", 2: "private_firm", 3: "other_employer"}),
    "CH11": ("school_kind", {1: "public_school", 2: "private_school"}),
    "CH15": (
        "birthplace",
        {
            1: "born_here",
            2: "elsewhere_in_province",
            3: "other_province",
            4: "neighbouring_country",
            5: "other_country",
        },
    ),
    "CH16": (
        "home_five_years_ago",
        {
            1: "same_town",
            2: "elsewhere_in_province",
            3: "other_province",
            4: "neighbouring_country",
            5: "other_country",
        },
    ),
}
"""Columns of a person: name and words of the codes."""

MEMBER_FLAGS = {
    "PP07H": "pension_contribution",
    "PP07I": "pays_own_pension",
    "PP07C": "job_has_end",
    "PP04B1": "domestic_service",
    "PP03G": "wants_more_hours",
    "PP03J": "seeks_other_work",
    "CH09": "reads_and_writes",
}
"""1 yes, 2 no; all but the last are asked of those who work, the first three of employees."""

BENEFITS = ("PP07G1", "PP07G2", "PP07G3", "PP07G4")
"""Employees: paid holidays, thirteenth payment, paid sick leave, health insurance; 1 yes, 2 no."""

WORKPLACE_SIZES = {
    1: 1,
    2: 2,
    3: 3,
    4: 4,
    5: 5,
    6: 6,
    7: 11,
    8: 26,
    9: 41,
    10: 101,
    11: 201,
    12: 501,
}
"""PP04C: how many work there, at least."""

WORKPLACE_SIZES_ROUGHLY = {1: 3, 2: 11, 3: 41}
"""PP04C99, for those who do not know exactly: up to 5 (the middle of them), 6 to 40, more than 40."""

MONTHS_AT_LEAST = {1: 0, 2: 1, 3: 3, 4: 6, 5: 12, 6: 60}
"""PP07A (employees) and PP05H (own account, employers): months in the job, at least."""

SEARCH_MONTHS = {1: 0, 2: 1, 3: 3, 4: 6, 5: 12}
"""PP10A: months that somebody without work has been looking for it, at least."""

NO_QUALIFICATION = 4
"""Last digit of PP04D_COD, the national classification of occupations of 2001: 1 professional,
2 technical, 3 operative, 4 no qualification."""

CONSTRUCTION = "72"
"""First two digits of PP04D_COD of work in construction."""

SCHOOLING: dict[int, tuple[int, int]] = {
    2: (0, 7),
    3: (0, 9),
    4: (7, 12),
    5: (9, 12),
    6: (12, 15),
    7: (12, 17),
    8: (17, 19),
}
"""CH12, the level attended: years of schooling before it, and with it finished."""

EDUCATION_LEVELS = {7: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}
"""NIVEL_ED in order: 0 no schooling, 1 and 2 primary (unfinished, finished), 3 and 4 secondary,
5 and 6 higher education."""

AMOUNTS = {
    "P21": "main_job_income",
    "TOT_P12": "other_job_income",
    "V2_M": "pension_income",
    "V5_M": "aid_income",
    "V8_M": "rent_income",
    "V12_M": "remittance_income",
    "T_VI": "non_labour_income",
    "P47T": "own_income",
    "PP08J1": "thirteenth_pay",
    "PP08J2": "pay_bonus",
    "PP08J3": "back_pay",
    "V21_M": "thirteenth_pension",
    "V3_M": "severance_pay",
    "V4_M": "unemployment_benefit",
    "V9_M": "business_profit",
    "V10_M": "interest_income",
    "V11_M": "scholarship_income",
    "V18_M": "other_cash_income",
}
"""Income of a person in pesos a month."""

UNDEREMPLOYED = (1, 2)
"""INTENSI of those who work under 35 hours a week and would work more: looking for more (1) or not
(2). In these years 3 is full time, 4 more than 45 hours and 5 no work in the week; later layouts
count both as 1."""
