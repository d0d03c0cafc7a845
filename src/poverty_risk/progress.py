"""Progress of long work: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["track"]


@contextlib.contextmanager
def track(
    description: str, total: int | None = None, quiet: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """Show progress on a terminal; stay quiet elsewhere.

    Parameters
    ----------
    description
        What is being done.
    total
        Steps in all; None when unknown.
    quiet
        True never shows, None shows when standard error is a terminal.

    Yields
    ------
    callable
        Called with the number of steps just done.

    Examples
    --------
    >>> with track("months", total=2, quiet=True) as advance:
    ...     advance(1)
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    # Only on a terminal, because importing it costs a tenth of a second.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda steps: progress.advance(task, steps)
