"""Exponentials, logarithms and real powers of matrices without symmetry."""
