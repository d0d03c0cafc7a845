"""Notebooks as pages: cells and their committed outputs. Nothing is executed."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

TAGS = re.compile(r"<style.*?</style>|<script.*?</script>", re.DOTALL)


def write_notebook(path: Path) -> dict[str, str | bytes]:
    """The page of a notebook and its pictures, by their paths in the site."""
    name = path.stem
    pages: dict[str, str | bytes] = {}
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(_fence(source, "python"))
        for output in cell["outputs"]:
            picture = f"{name}_{len(pages) + 1}.png"
            text, image = _tell_output(output, picture)
            parts.append(text)
            if image is not None:
                pages[f"notebooks/{picture}"] = image
    pages[f"notebooks/{name}.md"] = "\n\n".join(parts) + "\n"
    return pages


def read_title(path: Path) -> str:
    """The first heading of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "".join(cells[0]["source"]).partition("\n")[0].lstrip("# ")


def _fence(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _tell_output(output: dict[str, Any], picture: str) -> tuple[str, bytes | None]:
    if output["output_type"] == "stream":
        return _fence("".join(output["text"]), "text"), None
    data = output["data"]
    if "image/png" in data:
        image = base64.b64decode("".join(data["image/png"]))
        return f"![figure]({picture})", image
    if "text/html" in data:
        html = TAGS.sub("", "".join(data["text/html"]))
        # Blank lines and indents would end the block of HTML.
        lines = "\n".join(line.strip() for line in html.splitlines() if line.strip())
        return f'<div class="output">{lines}</div>', None
    return _fence("".join(data["text/plain"]), "text"), None
