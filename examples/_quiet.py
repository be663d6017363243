"""Imports TensorFlow without its remarks: `import _quiet` stands above anything that imports it.

TensorFlow says at its start which instructions it could use, and that it found no GPU: eight lines that
end with an error about CUDA. `TF_CPP_MIN_LOG_LEVEL` removes some of them. C++ writes the others before
any setting is read: they go away only if the error stream of the process leads elsewhere meanwhile.
If the import fails, they are shown after all.
"""

from __future__ import annotations

import os
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _import_tensorflow() -> None:
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as remarks:
        os.dup2(remarks.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_logical_devices()  # looks for GPUs, and says more
        except BaseException:
            remarks.seek(0)
            os.write(kept, remarks.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


if "tensorflow" not in sys.modules:
    _import_tensorflow()
