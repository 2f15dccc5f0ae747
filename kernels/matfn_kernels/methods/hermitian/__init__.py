"""Functions of Hermitian matrices by eigendecomposition."""
