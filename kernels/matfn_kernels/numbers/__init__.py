"""Arithmetic, coefficients, constants and cuts of a dimension: no operation on a batch."""
