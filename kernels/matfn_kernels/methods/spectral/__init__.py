"""Logarithms, exponentials and real powers of symmetric (Hermitian) matrices, by eigendecomposition."""
