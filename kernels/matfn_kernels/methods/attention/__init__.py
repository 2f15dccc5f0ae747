"""Largest logits, QK-clip and the delta rule."""
