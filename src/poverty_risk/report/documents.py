"""Documents in one file: templates that ask no network for anything, written whole or not at all."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from poverty_risk.whole_files import PRIVATE, telling_write_failures, write_whole_file

__all__ = ["read_source", "render_template", "write_document"]


@functools.cache
def _make_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("poverty_risk.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Chinese as it is, not as escapes: half the size of a page.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return environment


def render_template(name: str, context: Mapping[str, Any]) -> str:
    """Fill a template of the package; what is put in is escaped."""
    return _make_environment().get_template(name).render(**context)


def read_source(name: str) -> Markup:
    """A style or script of our own, not data: it stands in a document as it is."""
    environment = _make_environment()
    assert environment.loader is not None
    source = environment.loader.get_source(environment, name)[0]
    # Browsers read line ends as one character before they compare a script with its hash.
    return Markup(source.replace("\r\n", "\n"))  # noqa: S704


def write_document(text: str, path: str | Path, kind: str, *, private: bool = False) -> Path:
    """Write a document, whole or not at all; an older one is replaced.

    Parameters
    ----------
    text
        The document.
    path
        The file; its folder is made.
    kind
        What it is, for errors.
    private
        Whether it tells of households: then only its owner can read it, until the office passes it on.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    PovertyRiskError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_document("<p>guide</p>", f"{folder}/guide.html", "guide").read_text()
    '<p>guide</p>'
    """
    path = Path(path)
    with telling_write_failures(f"{kind} '{path}'"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole_file(path, text.encode(), PRIVATE if private else 0o644)
    return path
