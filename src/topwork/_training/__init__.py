"""Training on features."""

from topwork._backend import require_tensorflow

require_tensorflow()
