"""Initial values of weights."""

from torch import nn


def xavier_matrices_(module: nn.Module) -> None:
    """Fill all weights of two and more dimensions inside a module by Xavier's uniform rule.

    Vectors, such as biases and norms, keep the values that PyTorch gave them.
    """
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
