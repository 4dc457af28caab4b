"""transformers' EoMT, small and with random weights of which every one counts."""

import torch
import transformers

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_queries": 5,
    "num_blocks": 2,
    "num_labels": 3,
    "image_size": 64,
}


def small_eomt(kind: str, **changes):
    """Return a model of transformers in eval mode, of kind "eomt" or "eomt_dinov3"."""
    if kind == "eomt":
        config = transformers.EomtConfig(**SIZES | changes)
        model = transformers.EomtForUniversalSegmentation(config).eval()
    else:
        config = transformers.EomtDinov3Config(**SIZES | {"intermediate_size": 96} | changes)
        model = transformers.EomtDinov3ForUniversalSegmentation(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.15 if parameter.dim() > 1 else 0.3
            parameter.normal_(0, scale, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return model
