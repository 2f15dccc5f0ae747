"""Products and iterations in Triton, for a GPU."""
