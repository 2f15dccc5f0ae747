"""Arithmetic, coefficients and constants: no operation on a batch."""
