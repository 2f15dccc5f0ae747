"""Powers A^(s/r) of matrices."""
