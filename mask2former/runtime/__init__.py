"""Run exported models with numpy, Pillow and onnxruntime alone."""
