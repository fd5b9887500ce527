"""The demo: a broker, a worker and a real stream in one command, watched from outside.

`python -m app.demo` (or `make demo`) runs it. The modules: `command` (options and errors), `scenarios` (which
stream, how fast), `world` (one that changes), `worker` (the worker as a process of its own), `ledger` (events
against their answers), `story` (what has to happen, where there is one), `watcher` (what Kafka says),
`screen` (what a person sees), `run` (the order of things).
"""
