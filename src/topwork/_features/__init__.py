"""The frozen part of a model, run over data once; and where its features are kept."""

from topwork._backend import require_tensorflow

require_tensorflow()
