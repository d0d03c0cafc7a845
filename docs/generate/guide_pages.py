"""The officers' guide as a page of the site: the words are those that are printed with the visit list."""

from __future__ import annotations

from poverty_risk.report.guide import read_guide_text


def write_guide_page(locale: str) -> str:
    """The guide in Markdown: its first line is the title, a line after an empty one a heading."""
    title, *lines = read_guide_text(locale).splitlines()
    written = [f"# {title}"]
    for before, line in zip(["", *lines], lines, strict=False):
        if not line:
            continue
        is_heading = not before and line != lines[0]
        is_point = line.startswith("· ") or line.split(". ")[0].isdigit()
        text = f"## {line}" if is_heading else line.replace("· ", "- ", 1)
        joined = is_point and written[-1].startswith(
            ("- ", "1", "2", "3", "4", "5", "6", "7", "8", "9")
        )
        written += [text] if joined else ["", text]
    return "\n".join(written) + "\n"
