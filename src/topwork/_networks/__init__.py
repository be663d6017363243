"""Pretrained networks: building, cutting, freezing, heads, and reading their graphs."""

from topwork._backend import require_tensorflow

require_tensorflow()
