"""The contract of callers and kernels: the table of functions, certificates and rejections."""
