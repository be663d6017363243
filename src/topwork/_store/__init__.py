"""The feature store: bytes on disk. It knows nothing of Keras, images or training."""
