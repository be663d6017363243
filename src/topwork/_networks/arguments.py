"""Arguments that are numbers, of whatever type they come in."""

from __future__ import annotations

from typing import Any

from topwork._errors import InputError, whole_number


def required_whole(name: str, value: Any, at_least: int) -> int:
    """`value` as an int.

    Raises:
        InputError: It is no whole number, or less than `at_least`.
    """
    number = whole_number(value)
    if number is None or number < at_least:
        raise InputError(f"{name} must be a whole number of at least {at_least}. Received: {value!r}.")
    return number
