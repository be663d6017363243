"""Files that callbacks write while a model is trained."""

from __future__ import annotations

from typing import Any

import keras

from topwork._errors import warn
from topwork._networks.graph import steps
from topwork._networks.unnesting import unnested


def warn_of_h5(model: keras.Model, callbacks: Any) -> None:
    """Warn of whole models in .h5 that cannot be loaded again: the format knows layers only."""
    given = [] if isinstance(callbacks, keras.callbacks.CallbackList) else keras.tree.flatten(callbacks)
    paths = [str(each.filepath) for each in given if isinstance(each, keras.callbacks.ModelCheckpoint)]
    files = [path for path in paths if path.endswith((".h5", ".hdf5")) and ".weights." not in path]
    operations = [step.operation for step in unnested(steps(model)) if not step.is_input]
    unknown = [each for each in operations if not isinstance(each, keras.Layer)]
    if files and unknown:
        warn(
            f"ModelCheckpoint writes {files[0]!r}, and of {model.name!r} Keras cannot load such a file "
            f"again: plain operations of its graph ({type(unknown[0]).__name__!r} first) have no place "
            "in it. Write .keras. The weights are in it, for model.load_weights on a model made anew."
        )
