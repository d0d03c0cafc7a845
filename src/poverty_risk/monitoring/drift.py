"""How far a distribution is from another one that is known by its quantiles or its shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import kolmogorov
from scipy.stats import chi2, false_discovery_control, rankdata

__all__ = [
    "Comparison",
    "adjust_p_values",
    "compare_with_reference",
    "compute_effective_size",
    "compute_psi",
]

BINS = 10
"""Of the population stability index; with 20 a sample of some hundreds is never stable."""


class Comparison(NamedTuple):
    """How far values are from a reference.

    Parameters
    ----------
    psi
        Population stability index.
    distance
        Largest distance of the distribution functions; of categories half the summed difference.
    p_value
        Of Kolmogorov and Smirnov, or of chi-square.
    """

    psi: float
    distance: float
    p_value: float


def compute_psi(expected: np.ndarray, counts: np.ndarray) -> float:
    """Population stability index of counts against expected shares.

    Parameters
    ----------
    expected
        Share of each bin, summing to one.
    counts
        Count of each bin.

    Returns
    -------
    float
        Sum of (share - expected) times the log of their ratio; half a count is added to each bin on
        both sides, so that an empty one costs much, not infinitely much.

    Examples
    --------
    >>> import numpy as np
    >>> round(compute_psi(np.array([0.5, 0.5]), np.array([500, 500])), 6)
    0.0
    >>> round(compute_psi(np.array([0.5, 0.5]), np.array([80_000, 20_000])), 3)  # 0.3 * ln(1.6 / 0.4)
    0.416
    """
    n = counts.sum()
    size = n + 0.5 * len(counts)
    share, reference = (counts + 0.5) / size, (np.asarray(expected) * n + 0.5) / size
    return float(((share - reference) * np.log(share / reference)).sum())


def compute_effective_size(values: np.ndarray, clusters: np.ndarray | None) -> float:
    """How many independent values clustered ones are worth.

    Parameters
    ----------
    values
        Values, none missing.
    clusters
        Code of the cluster of each; None: they are independent.

    Returns
    -------
    float
        Their number over the design effect 1 + (m - 1) r, where r is the intraclass correlation of
        their ranks and m the (size-weighted) mean size of a cluster.

    References
    ----------
    Kish, L. (1965). Survey sampling.

    Examples
    --------
    >>> import numpy as np
    >>> village = np.repeat([0, 1, 2, 3], 25)
    >>> compute_effective_size(village * 1.0, village)  # a value of the village, not of households
    4.0
    """
    n = len(values)
    if clusters is None or n < 2:
        return float(n)
    ranks = rankdata(values)
    _, codes, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    k = len(sizes)
    if k < 2 or k == n:
        return float(n)
    means = np.bincount(codes, ranks) / sizes
    between = float((sizes * (means - ranks.mean()) ** 2).sum()) / (k - 1)
    within = float(((ranks - means[codes]) ** 2).sum()) / (n - k)
    mean_size = (n - (sizes**2).sum() / n) / (k - 1)
    spread = between + (mean_size - 1) * within
    correlation = max((between - within) / spread, 0.0) if spread else 0.0
    return float(n / (1 + ((sizes**2).sum() / n - 1) * correlation))


def compare_with_reference(
    entry: Mapping[str, Any],
    values: np.ndarray,
    *,
    size: float | None = None,
    reference_size: float = np.inf,
) -> Comparison | None:
    """Compare values with what a model folder keeps of the training values.

    Parameters
    ----------
    entry
        ``quantiles`` at evenly spaced shares, both ends included, or ``shares`` of codes.
    values
        Values, missing ones allowed (left out); positions of codes for ``shares``.
    size
        What the values are worth (see `compute_effective_size`); their number by default.
    reference_size
        The same for the reference.

    Returns
    -------
    Comparison or None
        None when the reference knows no distribution, or no value is known.

    Notes
    -----
    Between two quantiles nothing is known of the reference. Where several quantiles are the same
    value, its distribution function is known there to within one step only; values count as equal
    anywhere within that step, so that a discrete feature is not told to have moved by rounding.

    Examples
    --------
    >>> import numpy as np
    >>> entry = {"quantiles": np.linspace(0, 1, 21).tolist()}
    >>> same = compare_with_reference(entry, np.linspace(0, 1, 1000))
    >>> moved = compare_with_reference(entry, np.linspace(0.5, 1.5, 1000))
    >>> same.psi < 0.01 < 0.25 < moved.psi, round(moved.distance, 2)
    (True, 0.5)
    """
    known = values[~np.isnan(values)]
    if not len(known) or not ("shares" in entry or "quantiles" in entry):
        return None
    size = len(known) if size is None else size
    size = size / (1 + size / reference_size)
    if "shares" in entry:
        return _compare_codes(np.asarray(entry["shares"], dtype=float), known, size)
    reference, current = _distribution_functions(entry["quantiles"], known)
    distance = float(np.abs(reference - current).max())
    wanted = np.arange(1, BINS) / BINS
    inner = np.unique(np.searchsorted(reference, wanted - 1e-9))
    inner = inner[inner < len(reference) - 1]
    expected = np.diff([0.0, *reference[inner], 1.0])
    counts = np.diff([0.0, *current[inner], 1.0]) * len(known)
    p_value = float(kolmogorov(np.sqrt(size) * distance))
    return Comparison(compute_psi(expected, counts), distance, p_value)


def _distribution_functions(
    quantiles: Sequence[float], known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of reference and values, at each distinct quantile."""
    steps = len(quantiles) - 1
    edges, first, count = np.unique(quantiles, return_index=True, return_counts=True)
    lowest = (first + count - 1) / steps
    highest = np.where(count > 1, np.minimum(lowest + 1 / steps, 1.0), lowest)
    current = np.searchsorted(np.sort(known), edges, side="right") / len(known)
    # The lowest value alone: the reference has at least one there, about none of a continuous one.
    return np.clip(current, lowest, highest), current


def _compare_codes(expected: np.ndarray, known: np.ndarray, size: float) -> Comparison:
    counts = np.bincount(known.astype(int), minlength=len(expected)).astype(float)
    share, seen = counts / counts.sum(), expected > 0
    distance = float(np.abs(share - expected).sum() / 2)
    # Codes that training never had count as one that it almost never had.
    least = np.where(seen, expected, 0.5 / size)
    statistic = size * float(((share - least) ** 2 / least).sum())
    freedom = max(int((seen | (counts > 0)).sum()) - 1, 1)
    return Comparison(compute_psi(expected, counts), distance, float(chi2.sf(statistic, freedom)))


def adjust_p_values(p_values: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's adjustment; missing ones stay missing.

    Parameters
    ----------
    p_values
        P-values, missing where nothing was tested.

    Returns
    -------
    array
        Smallest false discovery rate at which each would be a discovery.

    References
    ----------
    Benjamini and Hochberg (1995). Controlling the false discovery rate.

    Examples
    --------
    >>> import numpy as np
    >>> adjust_p_values(np.array([0.01, np.nan, 0.04])).tolist()
    [0.02, nan, 0.04]
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        adjusted[tested] = false_discovery_control(p_values[tested])
    return adjusted
