"""The kernels in C for a CPU, and LAPACK called from C."""
