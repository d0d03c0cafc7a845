"""Writes the golden cards anew: ``python tests/regenerate_golden.py``; look at the difference after."""

from __future__ import annotations

from card_samples import GOLDEN, golden_card
from poverty_risk.wording import LOCALES


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for locale in LOCALES:
        path = GOLDEN / f"card_{locale}.html"
        path.write_text(golden_card(locale), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
