"""What a model says of images, and how well: predictions, reports, heat maps, plots."""
