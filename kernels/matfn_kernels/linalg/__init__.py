"""Products, decompositions and iterations on batches, by the fastest library that keeps the same bits."""
