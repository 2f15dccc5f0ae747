"""Polar factors and clipping of singular values."""
