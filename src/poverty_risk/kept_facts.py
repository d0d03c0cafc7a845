"""What follows from a fitted model alone, found once: a household's answer must not look for it again."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["keep_per_fit"]

_Arguments = ParamSpec("_Arguments")
_Found = TypeVar("_Found")


class Fitted(Protocol):
    """A fitted model: each fit has a forest of its own."""

    forest_: Any
    catalog: Any


_Model = TypeVar("_Model", bound=Fitted)


def keep_per_fit(
    find: Callable[Concatenate[_Model, _Arguments], _Found],
) -> Callable[Concatenate[_Model, _Arguments], _Found]:
    """A function of a fitted model and of values that can be hashed, whose results are kept.

    They go with the model's forest: another fit, or another catalogue, is another question. What is
    kept is shared, so it must not be changed.
    """
    kept: weakref.WeakKeyDictionary[Any, dict[Hashable, _Found]] = weakref.WeakKeyDictionary()
    lock = threading.Lock()

    def find_once(model: _Model, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Found:
        key: Hashable = (model.catalog, args, tuple(kwargs.items()))
        with lock:
            found = kept.setdefault(model.forest_, {})
        if key not in found:
            found[key] = find(model, *args, **kwargs)
        return found[key]

    functools.update_wrapper(find_once, find)
    return find_once
