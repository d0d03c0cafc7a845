"""All generated files of the site. Needs this package alone, so that they can be checked without MkDocs."""

from __future__ import annotations

from catalogue_pages import (
    write_consistency_page,
    write_feature_page,
    write_mapping_page,
    write_monitoring_page,
    write_schema_page,
)
from guide_pages import write_guide_page
from notebook_pages import read_title, write_notebook
from reference_pages import (
    ROOT,
    write_command_page,
    write_config_page,
    write_index,
    write_name_pages,
)
from time_figure import draw_time

FURTHER = {
    "reference/commands.md": "Command line",
    "reference/configs.md": "Run configs",
    "reference/tables.md": "Tables and labels",
    "reference/features.md": "Features",
    "reference/mappings.md": "Mapping files",
    "reference/consistency.md": "Consistency rules",
    "reference/monitoring.md": "Monitoring checks",
}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def write_pages() -> dict[str, str | bytes]:
    """All generated files of the site, by their paths in it."""
    pages: dict[str, str | bytes] = dict(write_name_pages())
    pages["reference/index.md"] = write_index(FURTHER)
    pages["reference/commands.md"] = write_command_page()
    pages["reference/configs.md"] = write_config_page()
    pages["reference/tables.md"] = write_schema_page()
    pages["reference/features.md"] = write_feature_page()
    pages["reference/mappings.md"] = write_mapping_page()
    pages["reference/consistency.md"] = write_consistency_page()
    pages["reference/monitoring.md"] = write_monitoring_page()
    pages["zh/guide.md"] = write_guide_page("zh")
    pages["explanation/guide.md"] = write_guide_page("en")
    for language in ("en", "zh"):
        pages[f"assets/time_{language}.svg"] = draw_time(language)
    for path in NOTEBOOKS:
        pages |= write_notebook(path)
    return pages


def list_written_pages() -> list[str]:
    """Pages that somebody wrote, by their paths in the site."""
    docs = ROOT / "docs"
    return [path.relative_to(docs).as_posix() for path in sorted(docs.rglob("*.md"))]


def write_navigation() -> dict[str, list[str | dict[str, str]]]:
    """The parts of the navigation that are generated, by their titles."""
    return {
        "Notebooks": [{read_title(path): f"notebooks/{path.stem}.md"} for path in NOTEBOOKS],
        "Reference": [
            "reference/index.md",
            *write_name_pages(),
            *({title: path} for path, title in FURTHER.items()),
        ],
    }
