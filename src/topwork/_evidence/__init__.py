"""Comparisons: what the images say of cuts and boundaries."""

from topwork._backend import require_tensorflow

require_tensorflow()
