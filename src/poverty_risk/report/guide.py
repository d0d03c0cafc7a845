"""The officer's guide: two printed pages, the part of the visit page, and plain text for the workbook.

The words stand in ``templates/guide_zh.html`` and ``guide_en.html``. After a change there, write the plain
texts beside them again::

    for locale in LOCALES:
        Path("src/poverty_risk/report/templates", f"guide_{locale}.txt").write_text(
            make_plain_text(render_guide_body(locale)), encoding="utf-8"
        )
"""

from __future__ import annotations

from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

from poverty_risk.report.documents import render_template, write_document
from poverty_risk.wording import load_locale

__all__ = [
    "make_plain_text",
    "read_guide_text",
    "render_guide",
    "render_guide_body",
    "write_guide",
]

BLOCKS = frozenset({"h2", "h3", "p", "li"})


def render_guide_body(locale: str) -> str:
    """The guide as part of a page.

    Parameters
    ----------
    locale
        ``"zh"`` or ``"en"``.

    Returns
    -------
    str
        HTML without ``<html>``, with its own style.

    Raises
    ------
    DeclarationError
        Another language.

    Examples
    --------
    >>> render_guide_body("en").startswith("<style>")
    True
    """
    load_locale(locale)
    return render_template(f"guide_{locale}.html", {})


def render_guide(locale: str) -> str:
    """The guide as a document of its own, at most two A4 pages on paper.

    Parameters
    ----------
    locale
        ``"zh"`` or ``"en"``.

    Returns
    -------
    str
        An HTML document without scripts; its policy forbids every request.

    Raises
    ------
    DeclarationError
        Another language.

    Examples
    --------
    >>> "<title>Visits for the risk of returning to poverty: a guide</title>" in render_guide("en")
    True
    """
    page = load_locale(locale)["page"]
    title = read_guide_text(locale).partition("\n")[0]
    context = {"lang": page["lang"], "title": title, "body": f"guide_{locale}.html"}
    return render_template("guide.html", context)


def write_guide(path: str | Path, locale: str = "zh") -> Path:
    """Write the guide as a document of its own, to print and hand out.

    Parameters
    ----------
    path
        The HTML file; an older one is replaced.
    locale
        ``"zh"`` or ``"en"``.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    DeclarationError
        Another language.
    PovertyRiskError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_guide(f"{folder}/guide.html", "en").name
    'guide.html'
    """
    return write_document(render_guide(locale), path, "guide")


def read_guide_text(locale: str) -> str:
    """The guide as plain text, one line per heading, sentence group or point.

    Parameters
    ----------
    locale
        ``"zh"`` or ``"en"``.

    Returns
    -------
    str
        The same words as in the HTML; an empty line before each heading.

    Raises
    ------
    DeclarationError
        Another language.

    Examples
    --------
    >>> read_guide_text("en").splitlines()[0]
    'Visits for the risk of returning to poverty: a guide'
    """
    load_locale(locale)
    source = resources.files("poverty_risk.report") / "templates" / f"guide_{locale}.txt"
    return source.read_text(encoding="utf-8")


def make_plain_text(html: str) -> str:
    r"""The words of the guide's HTML as plain text.

    Parameters
    ----------
    html
        Headings ``h2`` and ``h3``, paragraphs and lists; other elements are looked through.

    Returns
    -------
    str
        One line per block; points begin with a dot or their number.

    Examples
    --------
    >>> make_plain_text("<h2>Guide</h2><h3>1.</h3><ol><li><b>Tier:</b> red</li><li>Risk</li></ol>")
    'Guide\n\n1.\n1. Tier: red\n2. Risk\n'
    """
    reader = _PlainReader()
    reader.feed(html)
    reader.close()
    return "\n".join(reader.lines).strip() + "\n"


class _PlainReader(HTMLParser):
    """Collects one line per block."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._parts: list[str] | None = None
        self._mark = ""
        self._number: int | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in ("ul", "ol"):
            self._number = 0 if tag == "ol" else None
        if tag not in BLOCKS:
            return
        if tag == "h3":
            self.lines.append("")
        self._parts, self._mark = [], ""
        if tag == "li" and self._number is not None:
            self._number += 1
            self._mark = f"{self._number}. "
        elif tag == "li":
            self._mark = "· "

    def handle_endtag(self, tag: str) -> None:
        if tag in BLOCKS and self._parts is not None:
            # Only line breaks and spaces of the source: a wide space is a word of its own in Chinese.
            text = " ".join(
                part for part in "".join(self._parts).replace("\n", " ").split(" ") if part
            )
            self.lines.append(self._mark + text)
            self._parts = None

    def handle_data(self, data: str) -> None:
        if self._parts is not None:
            self._parts.append(data)
