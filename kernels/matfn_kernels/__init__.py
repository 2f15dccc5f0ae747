"""Kernels of matfn: matrix functions on batches of tensors, each answer with a certificate."""
