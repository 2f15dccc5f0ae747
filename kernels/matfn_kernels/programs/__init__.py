"""Programs, the interface of methods: validation of calls, prices, shared decompositions, findings."""
