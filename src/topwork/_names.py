"""Names that users hold on to: where a class is found, and how a name goes away."""

from __future__ import annotations

import functools
import typing
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])


def published(cls: Class) -> Class:
    """Give a class of results the address `topwork.types`, for pickles and messages.

    The module that defines it may then move, and what was pickled before is still found. What is a table
    in a notebook is a table at a Python prompt too, and not a screen full of fields.
    """
    # Resolved now: later they would be looked for in `topwork.types`.
    cls.__annotations__ = typing.get_type_hints(cls)
    cls.__module__ = "topwork.types"
    prints_itself = any("__str__" in vars(each) for each in cls.__mro__[:-1])
    if hasattr(cls, "_repr_html_") and prints_itself:
        cls.__repr__ = cls.__str__  # type: ignore[method-assign]
    return cls


def deprecated(
    *, since: str, until: str, instead: str, argument: str | None = None
) -> Callable[[Function], Function]:
    """Mark a public function, class or argument that is going away: a use of it warns at the user's line.

    Args:
        since: The version that warns first.
        until: The version that no longer has it.
        instead: What to write.
        argument: The one that goes, where the function stays.
    """

    def mark(function: Function) -> Function:
        name = function.__name__ if argument is None else f"{function.__name__}({argument}=)"
        text = f"{name} is deprecated since {since} and will be removed in {until}. Use {instead}."
        if argument is None:
            from typing_extensions import deprecated as marked  # type checkers know it too (PEP 702)

            return marked(text)(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if argument in kwargs:
                warnings.warn(text, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return typing.cast("Function", call)

    return mark
