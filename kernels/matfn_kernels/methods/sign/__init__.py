"""The matrix sign and spectral projectors."""
