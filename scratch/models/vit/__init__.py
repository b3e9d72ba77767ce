"""Vision Transformers: images as sequences of patches, read by a Transformer's encoder."""

from scratch.models.vit.masked import MaskedAutoencoder
from scratch.models.vit.model import VisionTransformer
from scratch.models.vit.published import Dinov2

__all__ = ["Dinov2", "MaskedAutoencoder", "VisionTransformer"]
