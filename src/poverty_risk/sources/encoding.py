"""The encoding of text files: UTF-8, UTF-16 or GB18030, told by the bytes themselves."""

from __future__ import annotations

import codecs

from poverty_risk.exceptions import Fault, PovertyRiskError

__all__ = ["decode_text"]

SURE_OF_UTF8 = 20
"""So many characters beyond ASCII never read well in UTF-8 by chance; text in GB18030 mostly stops
at the first."""


def decode_text(content: bytes, file: str) -> memoryview:
    """The text of a file in UTF-8, without a mark at its start.

    Parameters
    ----------
    content
        What the file holds.
    file
        Its name, for the error.

    Returns
    -------
    memoryview
        Valid UTF-8; the content itself where it was UTF-8 already.

    Raises
    ------
    PovertyRiskError
        No text, damaged, cut off within a character, or in another encoding.

    Examples
    --------
    >>> bytes(decode_text("\u6237".encode("gb18030"), "list.csv")).decode()
    '\u6237'
    """
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if content.startswith(mark):
            return _transcode(content, encoding, file)
    if b"\0" in content:
        found = "bytes that stand in no text"
        raise PovertyRiskError(Fault(file, found, "text", "Export it as 'CSV UTF-8' or XLSX."))
    has_mark = content.startswith(codecs.BOM_UTF8)
    text = memoryview(content)[len(codecs.BOM_UTF8) if has_mark else 0 :]
    end, n_wide = _find_end_of_utf8(text)
    if end == len(text):
        return text
    if has_mark or n_wide >= SURE_OF_UTF8:
        line = bytes(text[:end]).count(b"\n") + 1
        found = f"damaged UTF-8 in line {line}"
        if len(text) - end < 4:
            found = f"an end within a character, in line {line}"
        raise PovertyRiskError(Fault(file, found, "a whole file", "Copy or export it again."))
    return _transcode(content, "gb18030", file)


def _find_end_of_utf8(text: memoryview) -> tuple[int, int]:
    """Bytes up to the first that is no UTF-8, and the characters beyond ASCII among them."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    step, n_wide, size = 1 << 22, 0, len(text)
    for start in range(0, size, step):
        chunk = bytes(text[start : start + step])
        pending = len(decoder.getstate()[0])
        try:
            found = decoder.decode(chunk, final=start + step >= size)
        except UnicodeDecodeError as error:
            end = start - pending + error.start
            valid = bytes(text[max(start - pending, 0) : end]).decode("utf-8", errors="ignore")
            return end, n_wide + _count_wide(valid)
        if n_wide < SURE_OF_UTF8:
            n_wide += _count_wide(found)
    return size, n_wide


def _count_wide(text: str) -> int:
    return 0 if text.isascii() else sum(sign > "\x7f" for sign in text[:100_000])


def _transcode(content: bytes, encoding: str, file: str) -> memoryview:
    try:
        return memoryview(content.decode(encoding).encode())
    except UnicodeError as error:
        at = error.start if isinstance(error, UnicodeDecodeError) else 0
    line = content[:at].count(b"\n") + 1
    expected = "UTF-8 or GB18030" if encoding == "gb18030" else "a whole file in UTF-16"
    remedy = "Export it as 'CSV UTF-8' or XLSX; if it was cut off, copy it again."
    raise PovertyRiskError(
        Fault(file, f"characters of another encoding in line {line}", expected, remedy)
    )
