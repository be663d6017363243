"""Which Keras the tests run with, where an old one cannot do what is tested."""

import keras

KERAS = tuple(int(part) for part in keras.__version__.split(".")[:2])
