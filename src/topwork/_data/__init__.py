"""What the user gave, understood once: images, labels, weights, and what can be wrong with them."""

from topwork._backend import require_tensorflow

require_tensorflow()
