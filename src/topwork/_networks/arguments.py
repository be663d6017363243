"""Arguments that several functions have: whole numbers of whatever type, and the task."""

from __future__ import annotations

from typing import Any

from topwork._errors import InputError, whole_number

# One class an image, several labels an image, or numbers.
TASKS = ("classes", "labels", "numbers")


def required_whole(name: str, value: Any, at_least: int, *, instead: str = "") -> int:
    """`value` as an int.

    Args:
        name: Of the argument.
        value: What was given.
        at_least: What it may be.
        instead: What else may be given, for the message.

    Raises:
        InputError: It is no whole number, or less than `at_least`.
    """
    number = whole_number(value)
    if number is None or number < at_least:
        raise InputError(
            f"{name} must be a whole number of at least {at_least}{instead}. Received: {value!r}."
        )
    return number


def optional_whole(name: str, value: Any, at_least: int) -> int | None:
    """`value` as an int, or None."""
    return None if value is None else required_whole(name, value, at_least, instead=", or None")


def check_task(task: Any, *, instead: str = "") -> None:
    """Raise for what is no task.

    Args:
        task: What was given.
        instead: What else may be given, for the message: `", or None for ..."`.
    """
    if task not in TASKS:
        known = ", ".join(map(repr, TASKS))
        raise InputError(f"task must be one of {known}{instead}. Received: {task!r}.")
