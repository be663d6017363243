"""`transfer`: the whole way from images to a trained model, each choice measured."""

from topwork._backend import require_tensorflow

require_tensorflow()
