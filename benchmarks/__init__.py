"""Benchmarks: Nowcast, plain Faust and a hand-written loop on one broker, in one run (`make bench`)."""
