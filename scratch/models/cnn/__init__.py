"""Convolutional networks: LeNet-5, VGG, ResNet, MobileNetV2, EfficientNet-Lite0 and U-Net."""

from scratch.models.cnn.mobile import EfficientNetLite0, InvertedResidual, MobileNet, mobilenet_v2
from scratch.models.cnn.model import VGG, LeNet5
from scratch.models.cnn.resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet34, resnet50, resnet_small
from scratch.models.cnn.unet import UNet

__all__ = [
    "VGG",
    "BasicBlock",
    "Bottleneck",
    "EfficientNetLite0",
    "InvertedResidual",
    "LeNet5",
    "MobileNet",
    "ResNet",
    "UNet",
    "mobilenet_v2",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet_small",
]
