"""What callers and kernels agree on: the table of functions, certificates and rejections."""
