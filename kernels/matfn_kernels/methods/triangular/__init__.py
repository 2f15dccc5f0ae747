"""Inverses of and solutions with triangular matrices, and diagonal plus low-rank ones."""
