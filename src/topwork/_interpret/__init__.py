"""What a model says of images, and how well: predictions, reports, heat maps, plots."""

from topwork._backend import require_tensorflow

require_tensorflow()
