"""Neural network layers that know nothing of configs or of detectron2's registries."""

from .attention import CrossAttentionLayer, FFNLayer, MultiheadAttention, SelfAttentionLayer
from .deformable import DeformableAttention, DeformableEncoder, DeformableEncoderLayer
from .feature_pyramid import SimpleFeaturePyramid
from .initialisation import xavier_matrices_
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
    "MultiheadAttention",
    "SelfAttentionLayer",
    "SimpleFeaturePyramid",
    "SinePositionEncoding",
    "SwinBlock",
    "TransformerDecoder",
    "TransformerEncoder",
    "WindowAttention",
    "xavier_matrices_",
]
