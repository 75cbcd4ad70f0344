"""ONNX graphs of models: export from torch, number formats, and running them in ONNX Runtime."""
