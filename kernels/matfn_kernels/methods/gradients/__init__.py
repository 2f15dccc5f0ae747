"""Vector-Jacobian products: gradients of the inputs of a function for cotangents of its outputs."""
