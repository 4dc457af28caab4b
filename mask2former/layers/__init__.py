"""Neural network layers that know nothing of configs or of detectron2's registries."""

from .attention import CrossAttentionLayer, FFNLayer, MultiheadAttention, SelfAttentionLayer
from .deformable import DeformableAttention, DeformableEncoder, DeformableEncoderLayer
from .feature_pyramid import SimpleFeaturePyramid
from .initialisation import xavier_matrices_
from .linear import LinearSequential, linear_of
from .mlp import MLP
from .position import SinePositionEncoding
from .transformer import TransformerDecoder, TransformerEncoder
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
