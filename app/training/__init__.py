"""Training: labelled events from a file or from Kafka, candidates, an artefact.

The modules: `request` (what is asked for), `rows` (records to rows, as they are scored), `files` and `topics`
(where records come from), `labels` (those that came later), `background` (work that a signal can end) and
`artefact` (metadata, files and the record that is published). What is computed is in `compute/training/`.
"""
