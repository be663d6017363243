"""Pretrained networks: building, cutting, freezing, heads, and reading their graphs."""
