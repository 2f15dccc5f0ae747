"""Matrix functions on batches of tensors, each answer with a certificate.

All that other packages use is here; what lies in the folders below may change with any version.
"""

from matfn_kernels.contract.certificate import Certificate, Outcome, Residual
from matfn_kernels.contract.functions import (
    DTYPES,
    ENTRIES,
    FUNCTIONS,
    MAX_COEFFICIENT_ROWS,
    MAX_ROOT,
    MAX_STEPS,
    OPTIONS,
    options_of,
    unknown,
)
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.contract.schema import VERIFY, VJP, Function, Input, OnRequest, Parameter
from matfn_kernels.linalg.backends import TORCHS_OWN, Backends
from matfn_kernels.linalg.native.library import is_built, variant
from matfn_kernels.linalg.native.machine import described
from matfn_kernels.programs.calibration import measure
from matfn_kernels.programs.call import Call, Layout, Limits, refilled
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.profile_loading import load_profile, read_profile
from matfn_kernels.programs.program import Program
from matfn_kernels.programs.screening import screen
from matfn_kernels.programs.shared_decomposition import batch_key
from matfn_kernels.programs.validation import outline_call, parse_call
from matfn_kernels.running.compute import compute
from matfn_kernels.running.cuda_graphs import Graphed, Graphs, record
from matfn_kernels.running.evaluation import (
    Batch,
    Evaluation,
    batch_of,
    concatenate,
    demand,
    evaluate,
    evaluate_together,
    settle,
)
from matfn_kernels.running.plan import Plan, explain, make_plan
from matfn_kernels.running.requested import Requested

__all__ = [
    "DTYPES",
    "ENTRIES",
    "FUNCTIONS",
    "MAX_COEFFICIENT_ROWS",
    "MAX_ROOT",
    "MAX_STEPS",
    "OPTIONS",
    "TORCHS_OWN",
    "VERIFY",
    "VJP",
    "Backends",
    "Batch",
    "Call",
    "Certificate",
    "Evaluation",
    "Findings",
    "Function",
    "Graphed",
    "Graphs",
    "Input",
    "Layout",
    "Limits",
    "OnRequest",
    "Outcome",
    "Parameter",
    "Plan",
    "Profile",
    "Program",
    "Rejection",
    "Requested",
    "Residual",
    "batch_key",
    "batch_of",
    "compute",
    "concatenate",
    "demand",
    "described",
    "evaluate",
    "evaluate_together",
    "explain",
    "is_built",
    "load_profile",
    "make_plan",
    "measure",
    "options_of",
    "outline_call",
    "parse_call",
    "read_profile",
    "record",
    "refilled",
    "screen",
    "settle",
    "unknown",
    "variant",
]
