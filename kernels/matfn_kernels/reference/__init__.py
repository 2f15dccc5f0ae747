"""Direct definitions of all functions in float64 by numpy and scipy, the reference of tests and demo.

They share neither code nor library routines with the kernels beyond LAPACK and scipy. They read the catalogue, for the
names of definitions and the defaults of parameters.
"""

from matfn_kernels.reference.arrays import relative_error
from matfn_kernels.reference.definitions import DEFINITIONS, value
from matfn_kernels.reference.errors import eigenpair_errors, errors
from matfn_kernels.reference.polar import mclip, msign
from matfn_kernels.reference.roots import power
from matfn_kernels.reference.triangular import dplr_matrix, triangle

__all__ = [
    "DEFINITIONS",
    "dplr_matrix",
    "eigenpair_errors",
    "errors",
    "mclip",
    "msign",
    "power",
    "relative_error",
    "triangle",
    "value",
]
