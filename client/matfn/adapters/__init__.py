"""matfn under the names and in the forms of other libraries, one module for each; none is imported before its use.

matfn.adapters.distances   Frechet distances of features (FID), without covariances
matfn.adapters.optax       scale_by_shampoo, a GradientTransformation of JAX
matfn.adapters.pyriemann   sqrtm, invsqrtm and powm of covariances
"""

__all__: list[str] = []
