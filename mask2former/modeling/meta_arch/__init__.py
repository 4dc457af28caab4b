"""Meta-architectures and heads, registered in detectron2's registries."""
