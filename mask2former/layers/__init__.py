"""Neural network layers that know nothing of configs or of detectron2's registries."""

from .attention import MultiheadAttention
from .deformable import DeformableAttention, DeformableEncoder, DeformableEncoderLayer
from .feature_pyramid import SimpleFeaturePyramid
from .linear import MLP, LinearSequential, linear_of, xavier_matrices_
from .position import PositionEmbeddingSine, PositionEmbeddingSine3D, SinePositionEncoding
from .transformer import (
    CrossAttentionLayer,
    FFNLayer,
    SelfAttentionLayer,
    TransformerDecoder,
    TransformerEncoder,
)
from .window_attention import SwinBlock, WindowAttention

__all__ = [
    "MLP",
    "CrossAttentionLayer",
    "DeformableAttention",
    "DeformableEncoder",
    "DeformableEncoderLayer",
    "FFNLayer",
    "LinearSequential",
    "MultiheadAttention",
    "PositionEmbeddingSine",
    "PositionEmbeddingSine3D",
    "SelfAttentionLayer",
    "SimpleFeaturePyramid",
    "SinePositionEncoding",
    "SwinBlock",
    "TransformerDecoder",
    "TransformerEncoder",
    "WindowAttention",
    "linear_of",
    "xavier_matrices_",
]
