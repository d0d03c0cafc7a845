"""A mapping of one's own to complete, from what an inspection found."""

from __future__ import annotations

from pathlib import Path

from poverty_risk.exceptions import Fault, HistoryError
from poverty_risk.privacy import mask_numbers
from poverty_risk.sources.inspection import InspectedColumn, InspectedSheet
from poverty_risk.sources.kinds import Mapping
from poverty_risk.whole_files import write_whole_file

__all__ = ["render_mapping", "write_mapping"]


def render_mapping(inspected: InspectedSheet) -> str:
    """A mapping to complete: what the kind says, and what this sheet has beside it.

    Parameters
    ----------
    inspected
        What a sheet seems to be.

    Returns
    -------
    str
        YAML: close headers as proposals, words without a code and columns without a field as
        comments.

    Raises
    ------
    HistoryError
        Nothing of any kind was found: name the kind.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from poverty_risk.sources.inspection import inspect_sheet
    >>> from poverty_risk.sources.raw import RawSheet
    >>> sheet = RawSheet("a.csv", "", pa.table({"colour": ["red"]}), pa.array([2]))
    >>> print(render_mapping(inspect_sheet(sheet, kind="visits")).splitlines()[3])
    extends: visits
    """
    mapping = inspected.mapping
    if mapping is None:
        place = f"{inspected.file} {inspected.sheet}".strip()
        found = "no header that any kind of file has"
        raise HistoryError(Fault(place, found, "a known kind of file", "Name the kind."))
    lines = [
        f"# {_one_line(f'{inspected.file} {inspected.sheet}')}",
        f"# is close to '{mapping.name}' (confidence {inspected.confidence:.2f}).",
        "# Check every line; delete what is wrong. Headers and codes here are added to the shipped ones.",
        f"extends: {mapping.name}",
    ]
    told = [column for column in inspected.columns if column.status == "close" or column.unknown]
    lines += ["fields:"] if told else ["fields: {}"]
    for column in told:
        lines += _render_column(column, mapping)
    if inspected.missing:
        lines.append("# Still missing, add a header to one of each:")
        lines += [f"#   {group.replace('|', ' or ')}" for group in inspected.missing]
    unmapped = [column.header for column in inspected.columns if column.field is None]
    if unmapped:
        lines.append("# Columns without a field; they are not imported:")
        lines += [f"#   {_one_line(header)}" for header in unmapped]
    return "\n".join(lines) + "\n"


def _render_column(column: InspectedColumn, mapping: Mapping) -> list[str]:
    assert column.field is not None
    readable = "no cells" if column.readable is None else f"{column.readable:.0%} readable"
    lines = [f"  {column.field}:"]
    if column.status == "close":
        lines.append(
            f"    headers: [{_quote(column.header)}]  # confidence {column.confidence:.2f}, {readable}"
        )
    else:
        lines[0] += " {}"
    if column.unknown:
        field = mapping.fields[column.field]
        codes = ", ".join(dict.fromkeys(field.codes.values())) or "true, false"
        lines.append(f"    # Words without a code; under 'codes:' give each one of: {codes}")
        lines += [f"    #   {_quote(word)}:  # {n} rows" for word, n in column.unknown.items()]
    return lines


def _one_line(text: str) -> str:
    return mask_numbers("".join(sign for sign in " ".join(text.split()) if sign.isprintable()))


def _quote(text: str) -> str:
    plain = _one_line(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'


def write_mapping(inspected: InspectedSheet, path: str | Path) -> Path:
    """Write a mapping to complete (see `render_mapping`); an existing file is never replaced.

    Raises
    ------
    HistoryError
        Nothing of any kind was found, the file exists, or the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import pyarrow as pa
    >>> from poverty_risk.sources.inspection import inspect_sheet
    >>> from poverty_risk.sources.raw import RawSheet
    >>> sheet = RawSheet("a.csv", "", pa.table({"colour": ["red"]}), pa.array([2]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_mapping(inspect_sheet(sheet, kind="visits"), f"{folder}/own.yaml").name
    'own.yaml'
    """
    path, text = Path(path), render_mapping(inspected)
    try:
        if path.exists():
            raise FileExistsError(17, "the file exists")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole_file(path, text.encode())
    except OSError as error:
        raise HistoryError(
            Fault(f"'{path}'", str(error.strerror), "a new file", "Choose another path.")
        ) from None
    return path
