"""Front processes: they hold connections, bodies and answers, and send calls to the server, which batches them.

    callers --> front 1 (HTTP, plan, certificates' bytes) --\
    callers --> front 2 ------------------------------------ > server: queue, limits, batches --> workers
    callers --> server (as always) -------------------------/

All accept from one listening socket. A call travels to the server as its plan and its numbers, and its answer back;
what is large lies in memory that both sides see. Queue, batches, keys' limits and workers are the server's alone, so a
batch mixes the calls of all fronts.
"""
