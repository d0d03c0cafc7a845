"""The loops over rows, compiled by numba; imported when the first table is built, not before.

Rows are taken in blocks that stay in the processor's cache, column after column, so that the inner
loops run over neighbouring rows and fill vector registers. The loops release Python's lock: threads
of Python share the work. Numba's own threads are not used, because a process that has started them
may not fork, and some of their kinds may not be called from several threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numba
import numpy as np

from poverty_risk.shapley.deep import Deep
from poverty_risk.shapley.questions import Columns, Tests
from poverty_risk.shapley.tables import Leaves, Pieces
from poverty_risk.shapley.trees import Asks

__all__ = ["explain_rows", "fill_tables"]

PADDING = 8
"""Doubles between two columns of a block: columns a power of two apart would share cache lines."""

ZERO = float(np.float32(1e-35))
"""LightGBM reads every value up to this size as 0."""

FEW = 64
"""Up to so many thresholds, counting those below a value is faster than bisection."""

NUMBER, NOT_ZERO, NOT_NAN = int(Asks.NUMBER), int(Asks.NUMBER_NOT_ZERO), int(Asks.NUMBER_NOT_NAN)
CATEGORY = int(Asks.CATEGORY)

FIELDS = {
    Tests: ("column", "low", "span", "begin", "member"),
    Columns: ("feature", "asks", "begin", "threshold"),
    Pieces: ("tests", "test_begin", "output_begin", "value_begin", "output"),
    Leaves: ("begin", "step_begin", "value", "cover", "yes", "no", "slot"),
    Deep: ("tests", "begin", "parent", "earlier", "output", "value", "factor", "weight"),
}
"""As compiled. What was compiled is kept until this file changes, so that it has to change when their
order does; a test compares them."""

Array: TypeAlias = np.ndarray
Function = TypeVar("Function", bound=Callable[..., Any])


def _compiled(function: Function, **options: Any) -> Function:
    """Compile when first called, and keep what was compiled for the next process.

    Numba keeps it beside this file, in the user's cache folder if that cannot be written, or where
    NUMBA_CACHE_DIR says. Without any such place every process compiles for itself.
    """
    try:
        made = numba.njit(function, cache=True, nogil=True, **options)
    except RuntimeError:
        made = numba.njit(function, nogil=True, **options)
    return made  # type: ignore[no-any-return]


def _inlined(function: Function) -> Function:
    """For loops that run often and briefly: a call that passes arrays costs more than they do."""
    return _compiled(function, inline="always")


@_compiled
def _place_values(
    X: Array, first: int, columns: Columns, one: int, values: Array, counts: Array, places: Array
) -> None:
    """Places of one column's values."""
    rows = places.shape[0]
    feature, asks = columns.feature[one], columns.asks[one]
    begin, end = columns.begin[one], columns.begin[one + 1]
    for row in range(rows):
        value = X[first + row, feature]
        values[row] = 0.0 if abs(value) <= ZERO else value
    if asks == CATEGORY:
        codes = columns.threshold[begin]
        for row in range(rows):
            value = values[row]
            # Cut towards 0, as LightGBM does: -0.5 is category 0.
            places[row] = np.int64(value) + 1 if -1.0 < value < codes else 0
        return
    if asks == NUMBER:
        for row in range(rows):
            values[row] = 0.0 if np.isnan(values[row]) else values[row]
    _count_below(values, columns.threshold, begin, end, counts)
    for row in range(rows):
        value = values[row]
        missing = np.isnan(value) | ((asks == NOT_ZERO) & (value == 0.0))
        places[row] = 0 if missing else counts[row] + 1


@_compiled
def _count_below(values: Array, threshold: Array, begin: int, end: int, counts: Array) -> None:
    """How many thresholds of a column each value is above."""
    for row in range(values.shape[0]):
        counts[row] = 0
    if end - begin <= FEW:
        for at in range(begin, end):
            limit = threshold[at]
            for row in range(values.shape[0]):
                counts[row] += values[row] > limit
        return
    for row in range(values.shape[0]):
        value, low, high = values[row], begin, end
        while low < high:
            middle = (low + high) >> 1
            if value > threshold[middle]:
                low = middle + 1
            else:
                high = middle
        counts[row] = low - begin


@_inlined
def _test_places(places: Array, tests: Tests, one: int, bit: int, patterns: Array) -> None:
    """Add to each row's pattern the bit of a set that its place is in."""
    column, begin = tests.column[one], tests.begin[one]
    weight, nothing = patterns.dtype.type(1 << bit), patterns.dtype.type(0)
    if begin < 0:
        low, span = tests.low[one], tests.span[one]
        for row in range(patterns.shape[0]):
            inside = places.dtype.type(places[column, row] - low) <= span
            patterns[row] |= weight if inside else nothing
    else:
        for row in range(patterns.shape[0]):
            inside = tests.member[begin + np.int64(places[column, row])] != 0
            patterns[row] |= weight if inside else nothing


@_compiled
def _look_up(places: Array, pieces: Pieces, table: Array, patterns: Array, sums: Array) -> None:
    """Add what the tables say about each row of a block."""
    for piece in range(pieces.test_begin.shape[0] - 1):
        begin, end = pieces.test_begin[piece], pieces.test_begin[piece + 1]
        patterns[:] = 0
        for test in range(begin, end):
            _test_places(places, pieces.tests, test, test - begin, patterns)
        at, output = pieces.value_begin[piece], pieces.output_begin[piece]
        width = pieces.output_begin[piece + 1] - output
        last = output + width
        while last - output >= 4:
            _add_four(table, at, width, patterns, pieces.output, output, sums)
            at, output = at + 4, output + 4
        while output < last:
            _add_one(table, at, width, patterns, pieces.output[output], sums)
            at, output = at + 1, output + 1


@_inlined
def _add_four(
    table: Array, at: int, width: int, patterns: Array, outputs: Array, output: int, sums: Array
) -> None:
    """Four neighbouring values of each row's entry: together they cost little more than two alone."""
    a, b, c, d = outputs[output], outputs[output + 1], outputs[output + 2], outputs[output + 3]
    # Without sign: a negative place would count from the end, and asking costs time.
    start, step = np.uint64(at), np.uint64(width)
    for row in range(patterns.shape[0]):
        entry = start + step * np.uint64(patterns[row])
        sums[a, row] += table[entry]
        sums[b, row] += table[entry + np.uint64(1)]
        sums[c, row] += table[entry + np.uint64(2)]
        sums[d, row] += table[entry + np.uint64(3)]


@_inlined
def _add_one(table: Array, at: int, width: int, patterns: Array, output: int, sums: Array) -> None:
    start, step = np.uint64(at), np.uint64(width)
    for row in range(patterns.shape[0]):
        sums[output, row] += table[start + step * np.uint64(patterns[row])]


@_compiled
def _count_conditions(places: Array, deep: Deep, begin: int, end: int, states: Array) -> None:
    """How many of each edge's and its earlier edge's conditions a row satisfies."""
    for edge in range(begin, end):
        states[edge - begin] = 0
        _test_places(places, deep.tests, edge, 0, states[edge - begin])
    # Later edges first: each adds what its earlier edge still says alone.
    for edge in range(end - 1, begin - 1, -1):
        earlier = deep.earlier[edge]
        if earlier >= 0:
            for row in range(states.shape[1]):
                states[edge - begin, row] += states[earlier, row]


@_compiled
def _integrate(places: Array, deep: Deep, states: Array, ways: Array, sums: Array) -> None:
    """Add what deep leaves count for each row of a block.

    Products go down edge by edge into ``ways[0]``; from the leaves up ``ways[1]`` sums those of the
    leaves below. Four nodes at a time, written out: a loop would first ask whether rows overlap.
    """
    for tree in range(deep.begin.shape[0] - 1):
        begin, end = deep.begin[tree], deep.begin[tree + 1]
        _count_conditions(places, deep, begin, end, states)
        for row in range(states.shape[1]):
            ways[0, 0] = 1.0  # above all edges; edge e stands at e + 1
            for edge in range(begin, end):
                own = edge - begin + 1
                _go_down(
                    deep.factor[edge, states[own - 1, row]],
                    ways[0, deep.parent[edge] + 1],
                    deep.value[edge],
                    ways[0, own],
                    ways[1, own],
                )
            for edge in range(end - 1, begin - 1, -1):
                own = edge - begin + 1
                sums[deep.output[edge], row] += _go_up(
                    deep.weight[edge, states[own - 1, row]],
                    ways[1, own],
                    ways[1, deep.parent[edge] + 1],
                )


@_inlined
def _go_down(factor: Array, above: Array, value: float, own: Array, below: Array) -> None:
    for node in range(0, own.shape[0], 4):
        a = above[node] * factor[node]
        b = above[node + 1] * factor[node + 1]
        c = above[node + 2] * factor[node + 2]
        d = above[node + 3] * factor[node + 3]
        own[node], own[node + 1], own[node + 2], own[node + 3] = a, b, c, d
        # At splits the value is 0: their sums begin there.
        below[node], below[node + 1] = a * value, b * value
        below[node + 2], below[node + 3] = c * value, d * value


@_inlined
def _go_up(weight: Array, own: Array, above: Array) -> float:
    first = second = third = fourth = 0.0
    for node in range(0, own.shape[0], 4):
        a, b, c, d = own[node], own[node + 1], own[node + 2], own[node + 3]
        first += a * weight[node]
        second += b * weight[node + 1]
        third += c * weight[node + 2]
        fourth += d * weight[node + 3]
        a, b, c, d = above[node] + a, above[node + 1] + b, above[node + 2] + c, above[node + 3] + d
        above[node], above[node + 1], above[node + 2], above[node + 3] = a, b, c, d
    return (first + second) + (third + fourth)


@_compiled
def explain_rows(
    X: Array,
    base: float,
    columns: Columns,
    pieces: Pieces,
    table: Array,
    deep: Deep,
    block: int,
    result: Array,
) -> None:
    """Write the contributions of each row of `X` column by column, and the base as the last."""
    outputs = result.shape[0] - 1
    edges = 0
    for tree in range(deep.begin.shape[0] - 1):
        edges = max(edges, deep.begin[tree + 1] - deep.begin[tree])
    ways = np.empty((2, edges + 1, deep.factor.shape[2]))
    for first in range(0, X.shape[0], block):
        rows = min(block, X.shape[0] - first)
        values, counts = np.empty(rows), np.empty(rows, np.int64)
        places = np.empty((columns.feature.shape[0], rows), pieces.tests.low.dtype)
        for one in range(columns.feature.shape[0]):
            _place_values(X, first, columns, one, values, counts, places[one])
        sums = np.zeros((outputs, rows + PADDING))
        _look_up(places, pieces, table, np.empty(rows, np.uint16), sums)
        _integrate(places, deep, np.empty((edges, rows), np.uint8), ways, sums)
        for output in range(outputs):
            for row in range(rows):
                result[output, first + row] = sums[output, row]
        for row in range(rows):
            result[outputs, first + row] = base


@_compiled
def _tabulate_leaf(
    value: float, covers: Array, nodes: Array, weights: Array, products: Array, phi: Array
) -> None:
    """Shapley values of one leaf, shape (features, patterns): bit ``j`` says that feature ``j`` is met.

    With f_j(x) = x * b_j + (1 - x) * z_j the value of feature k is v * (b_k - z_k) times the integral
    of the product over all other features. The product over all is built up once for all patterns and
    divided by f_k in the form in which 0 never stands below.
    """
    features = covers.shape[0]
    size = 1 << features
    phi[:features, :size] = 0.0
    for node in range((features + 1) // 2):
        x = nodes[features, node]
        products[0] = weights[features, node] * value
        for j in range(features):
            half = 1 << j
            unmet = (1.0 - x) * covers[j]
            for pattern in range(half):
                products[half + pattern] = products[pattern] * (x + unmet)
            for pattern in range(half):
                products[pattern] *= unmet
        for k in range(features):
            own = phi[k]
            met, unmet = (1.0 - covers[k]) / (x + (1.0 - x) * covers[k]), -1.0 / (1.0 - x)
            for pattern in range(size):
                own[pattern] += products[pattern] * (met if (pattern >> k) & 1 else unmet)


@_compiled
def fill_tables(pieces: Pieces, leaves: Leaves, nodes: Array, weights: Array, table: Array) -> None:
    """Add up the leaves of each piece for every pattern of its conditions."""
    most = nodes.shape[0] - 1
    phi, products = np.empty((most, 1 << most)), np.empty(1 << most)
    met = np.empty(1 << 16, np.uint16)
    for piece in range(leaves.begin.shape[0] - 1):
        size = 1 << (pieces.test_begin[piece + 1] - pieces.test_begin[piece])
        start = pieces.value_begin[piece]
        width = pieces.output_begin[piece + 1] - pieces.output_begin[piece]
        for leaf in range(leaves.begin[piece], leaves.begin[piece + 1]):
            begin, end = leaves.step_begin[leaf], leaves.step_begin[leaf + 1]
            _tabulate_leaf(
                leaves.value[leaf], leaves.cover[begin:end], nodes, weights, products, phi
            )
            met[:size] = 0
            for step in range(begin, end):
                yes, no = leaves.yes[step], leaves.no[step]
                bit = np.uint16(1 << (step - begin))
                for pattern in range(size):
                    fits = (pattern & yes) == yes and (pattern & no) == 0
                    met[pattern] |= bit if fits else np.uint16(0)
            for step in range(begin, end):
                own = phi[step - begin]
                for pattern in range(size):
                    table[start + pattern * width + leaves.slot[step]] += own[met[pattern]]
