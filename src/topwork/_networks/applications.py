"""The table of `keras.applications`: what differs from network to network stands here only."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Application:
    """One network of `keras.applications`.

    Where it can be cut cleanly is not written down: `clean_cuts` reads it off the graph.

    Attributes:
        constructor: Its name in `keras.applications`.
        module: The module of `keras.applications` with its `preprocess_input`.
        size: Height and width in pixels that it was trained at.
        boundary: The layer that fine-tuning starts from unless told otherwise: the first one with
            weights to train of the last stage, the one whose feature maps are the smallest.
        rescales_imagenet: Keras builds it with one more layer for ImageNet's weights than for none.
    """

    constructor: str
    module: str
    size: int
    boundary: str
    rescales_imagenet: bool = False


def _densenet(depth: int) -> Application:
    return Application(f"DenseNet{depth}", "densenet", 224, boundary="conv5_block1_1_conv")


def _resnet(depth: int) -> Application:
    return Application(f"ResNet{depth}", "resnet", 224, boundary="conv5_block1_1_conv")


def _resnet_v2(depth: int) -> Application:
    return Application(f"ResNet{depth}V2", "resnet_v2", 224, boundary="conv5_block1_1_conv")


def _efficientnet(variant: str, size: int) -> Application:
    # The published weights have ImageNet's standard deviations where variances belong. Keras makes up
    # for it by a second Rescaling, only for `weights="imagenet"`
    # (https://github.com/tensorflow/tensorflow/issues/49930).
    return Application(
        f"EfficientNet{variant}",
        "efficientnet",
        size,
        boundary="block6a_expand_conv",
        rescales_imagenet=True,
    )


def _efficientnet_v2(variant: str, size: int) -> Application:
    return Application(
        f"EfficientNetV2{variant}", "efficientnet_v2", size, boundary="block6a_expand_conv"
    )


def _convnext(variant: str) -> Application:
    # The layers bear the network's name. Their sums are plain operations, no layers: the clean cuts
    # are the stages, each of which begins with a small Sequential model that halves the feature map.
    boundary = f"convnext_{variant.lower()}_downsampling_block_2"
    return Application(f"ConvNeXt{variant}", "convnext", 224, boundary=boundary)


APPLICATIONS = {
    "convnext_base": _convnext("Base"),
    "convnext_large": _convnext("Large"),
    "convnext_small": _convnext("Small"),
    "convnext_tiny": _convnext("Tiny"),
    "convnext_xlarge": _convnext("XLarge"),
    "densenet121": _densenet(121),
    "densenet169": _densenet(169),
    "densenet201": _densenet(201),
    "efficientnet_b0": _efficientnet("B0", 224),
    "efficientnet_b1": _efficientnet("B1", 240),
    "efficientnet_b2": _efficientnet("B2", 260),
    "efficientnet_b3": _efficientnet("B3", 300),
    "efficientnet_b4": _efficientnet("B4", 380),
    "efficientnet_b5": _efficientnet("B5", 456),
    "efficientnet_b6": _efficientnet("B6", 528),
    "efficientnet_b7": _efficientnet("B7", 600),
    "efficientnet_v2_b0": _efficientnet_v2("B0", 224),
    "efficientnet_v2_b1": _efficientnet_v2("B1", 240),
    "efficientnet_v2_b2": _efficientnet_v2("B2", 260),
    "efficientnet_v2_b3": _efficientnet_v2("B3", 300),
    "efficientnet_v2_l": _efficientnet_v2("L", 480),
    "efficientnet_v2_m": _efficientnet_v2("M", 480),
    "efficientnet_v2_s": _efficientnet_v2("S", 384),
    # Its layers have no names of their own; this is the first of the block that makes 8x8 of 17x17.
    "inception_resnet_v2": Application(
        "InceptionResNetV2", "inception_resnet_v2", 299, boundary="conv2d_160"
    ),
    # Not the last stage but index 172, inside block mixed6: where the published recipes for this
    # network fine-tune from.
    "inception_v3": Application("InceptionV3", "inception_v3", 299, boundary="conv2d_56"),
    "mobilenet": Application("MobileNet", "mobilenet", 224, boundary="conv_dw_12"),
    "mobilenet_v2": Application("MobileNetV2", "mobilenet_v2", 224, boundary="block_13_expand"),
    "mobilenet_v3_large": Application(
        "MobileNetV3Large", "mobilenet_v3", 224, boundary="expanded_conv_12_expand"
    ),
    "mobilenet_v3_small": Application(
        "MobileNetV3Small", "mobilenet_v3", 224, boundary="expanded_conv_8_expand"
    ),
    # Each cell takes the two before it, so that nothing between the stem and the last cell is a clean
    # cut, and what is frozen ends in several feature maps.
    "nasnet_large": Application("NASNetLarge", "nasnet", 331, boundary="reduction_conv_1_reduce_12"),
    "nasnet_mobile": Application("NASNetMobile", "nasnet", 224, boundary="reduction_conv_1_reduce_8"),
    "resnet101": _resnet(101),
    "resnet101_v2": _resnet_v2(101),
    "resnet152": _resnet(152),
    "resnet152_v2": _resnet_v2(152),
    "resnet50": _resnet(50),
    "resnet50_v2": _resnet_v2(50),
    "vgg16": Application("VGG16", "vgg16", 224, boundary="block5_conv1"),
    "vgg19": Application("VGG19", "vgg19", 224, boundary="block5_conv1"),
    "xception": Application("Xception", "xception", 299, boundary="block13_sepconv1"),
}


def list_backbones() -> list[str]:
    """The networks that `load_backbone` knows, as it names them.

    Example:
        >>> import topwork as tw
        >>> "inception_v3" in tw.list_backbones()
        True
    """
    return sorted(APPLICATIONS)
