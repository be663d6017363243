"""`transfer`: the whole way from images to a trained model, each choice measured."""
