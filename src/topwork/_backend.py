"""Which backend Keras has or will have, found out without importing it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def require_tensorflow() -> None:
    """Raise if Keras runs on another backend than TensorFlow.

    Called where the first module is imported that needs Keras: with the backend of a package that is not
    installed, `import keras` alone would fail, and not say what to do.
    """
    backend = _backend()
    if backend != "tensorflow":
        raise ImportError(
            f"topwork works with Keras on TensorFlow, and the backend of Keras is {backend!r}. Set the "
            "environment variable KERAS_BACKEND=tensorflow, or os.environ['KERAS_BACKEND'] = "
            "'tensorflow' before the first import of keras."
        )


def _backend() -> str:
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "config"):
        return str(keras.config.backend())
    return os.environ.get("KERAS_BACKEND") or _in_file()


def _in_file() -> str:
    """What Keras' own file of settings says, https://keras.io/getting_started/#configuring-your-backend."""
    home = os.environ.get("KERAS_HOME") or Path("~").expanduser() / ".keras"
    try:
        settings = json.loads((Path(home) / "keras.json").read_text("utf-8"))
        return str(settings.get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"  # as Keras does
