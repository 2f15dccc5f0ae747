"""The definition of every function, written out naively in float64 with numpy and scipy, as the truth to compare with.

Nothing is shared with the kernels on purpose, neither code nor library routine beyond LAPACK's and scipy's own; only
the catalogue is read, for the names of definitions and the defaults of parameters.
"""

from matfn_kernels.reference.arrays import relative_error
from matfn_kernels.reference.definitions import DEFINITIONS, value
from matfn_kernels.reference.polar import mclip, msign
from matfn_kernels.reference.roots import power
from matfn_kernels.reference.triangular import dplr_matrix, triangle

__all__ = ["DEFINITIONS", "dplr_matrix", "mclip", "msign", "power", "relative_error", "triangle", "value"]
