"""Exports of trained models for ONNX Runtime, checked on real rows."""
