"""Code of the pages: run, compared with the output that stands below it, or written there anew.

The blocks of a page run one after the other. Where a text block follows a Python block, it is what that block prints.
The tutorial runs first; every other page goes on from where the tutorial ended, in the same folder. After a change::

    python docs/generate/code_blocks.py --write
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
FIRST = "tutorial.md"
CODE = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```bash\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Ran:
    """A block that ran: its page, source, expected and printed text."""

    page: str
    source: str
    expected: str
    printed: str


def list_pages() -> list[str]:
    """Pages with Python, the tutorial first."""
    found = [
        str(path.relative_to(DOCS))
        for path in sorted(DOCS.rglob("*.md"))
        if CODE.search(path.read_text(encoding="utf-8"))
    ]
    return [FIRST, *(page for page in found if page != FIRST)]


def run_page(page: str, names: dict[str, Any]) -> list[Ran]:
    """Run the blocks of a page; `names` is what its code sees and adds to."""
    ran = []
    for match in CODE.finditer((DOCS / page).read_text(encoding="utf-8")):
        printed = io.StringIO()
        line = f"{page}, {match[1].partition(chr(10))[0]}"
        with contextlib.redirect_stdout(printed):
            exec(compile(match[1], line, "exec"), names)  # noqa: S102 - our own pages
        # Tables are padded with blanks that an editor may take away.
        lines = [line.rstrip() for line in printed.getvalue().splitlines()]
        ran.append(Ran(page, match[1], match[2] or "", "".join(f"{line}\n" for line in lines)))
    return ran


def list_shell_lines() -> list[tuple[str, str]]:
    """Page and line of every command in a shell block, without comments."""
    return [
        (str(path.relative_to(DOCS)), line.split(" #")[0].strip())
        for path in sorted(DOCS.rglob("*.md"))
        for block in SHELL.findall(path.read_text(encoding="utf-8"))
        for line in block.replace("\\\n", " ").splitlines()
        if line.split("#")[0].strip()
    ]


def write_outputs() -> None:
    """Run all pages in a new folder and write what their code prints below it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        begun: dict[str, Any] = {}
        for page in list_pages():
            names = begun if page == FIRST else dict(begun)
            printed = run_page(page, names)
            # Read again: somebody may have edited the page while its code ran.
            text = (DOCS / page).read_text(encoding="utf-8")
            for ran in printed:
                block = f"```python\n{ran.source}```\n"
                old = block + (f"\n```text\n{ran.expected}```\n" if ran.expected else "")
                new = block + (f"\n```text\n{ran.printed}```\n" if ran.printed else "")
                text = text.replace(old, new, 1)
            (DOCS / page).write_text(text, encoding="utf-8")
        os.chdir(DOCS)


if __name__ == "__main__" and "--write" in sys.argv:
    write_outputs()
