"""The table of `keras.applications`: what differs from network to network stands here only."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Application:
    """One network of `keras.applications`.

    Attributes:
        constructor: Its name in `keras.applications`.
        module: The module of `keras.applications` with its `preprocess_input`.
        size: Height and width in pixels that it was trained at.
        boundary: The layer that fine-tuning starts from unless told otherwise.
    """

    constructor: str
    module: str
    size: int
    boundary: str


APPLICATIONS = {
    "inception_v3": Application("InceptionV3", "inception_v3", 299, boundary="conv2d_56"),
    "mobilenet": Application("MobileNet", "mobilenet", 224, boundary="conv_dw_11"),
    "vgg16": Application("VGG16", "vgg16", 224, boundary="block5_conv1"),
}
