"""Comparisons: what the images say of cuts and boundaries."""
