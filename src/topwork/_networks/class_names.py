"""The names of classes in the order of their numbers, from all that `class_names` may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from topwork._errors import InputError, described, whole_number


def names_in_order(class_names: Any) -> tuple[str, ...]:
    """The names by number.

    Args:
        class_names: In the order of the numbers; or a dict, from number to name or, as
            ``class_indices`` of Keras' older readers, from name to number.

    Raises:
        InputError: It is a single string, has no order, or the numbers are not those from 0 on.
    """
    if isinstance(class_names, Mapping):
        return _by_number(class_names)
    has_no_order = isinstance(class_names, (str, bytes, set, frozenset))
    if has_no_order or not isinstance(class_names, Iterable) or getattr(class_names, "ndim", 1) != 1:
        raise InputError(
            "class_names is a list of names in the order of the classes' numbers, or a dict from numbers "
            f"to names. Received: {described(class_names)}."
        )
    return tuple(map(str, class_names))


def _by_number(class_names: Mapping[Any, Any]) -> tuple[str, ...]:
    numbers = list(map(whole_number, class_names))
    names: Iterable[Any] = class_names.values()
    if None in numbers:  # by name
        numbers, names = list(map(whole_number, class_names.values())), class_names
    by_number = dict(zip(numbers, names, strict=True))
    if sorted(number for number in numbers if number is not None) != list(range(len(class_names))):
        raise InputError(
            "class_names as a dict names the classes by their numbers, from 0 on, each once: "
            f"{{0: 'ant', 1: 'bee'}}. Received: {str(dict(class_names))[:80]}."
        )
    return tuple(str(by_number[number]) for number in range(len(class_names)))
