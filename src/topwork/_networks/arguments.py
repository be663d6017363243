"""Arguments that several functions have: whole numbers of whatever type, and the task."""

from __future__ import annotations

from typing import Any

from topwork._errors import InputError, whole_number

# One class an image, several labels an image, or numbers.
TASKS = ("classes", "labels", "numbers")


def required_whole(name: str, value: Any, at_least: int) -> int:
    """`value` as an int.

    Raises:
        InputError: It is no whole number, or less than `at_least`.
    """
    number = whole_number(value)
    if number is None or number < at_least:
        raise InputError(f"{name} must be a whole number of at least {at_least}. Received: {value!r}.")
    return number


def check_task(task: Any, *, instead: str = "") -> None:
    """Raise for what is no task.

    Args:
        task: What was given.
        instead: What else may be given, for the message: `", or None for ..."`.
    """
    if task not in TASKS:
        known = ", ".join(map(repr, TASKS))
        raise InputError(f"task must be one of {known}{instead}. Received: {task!r}.")
