"""Training: from labelled events in order of time to a checked artefact and a table of all candidates.

The modules: `plan` (task, metrics, how rows are split by time), `sample` (which events are held),
`candidates` (models and the bounds of their search), `scores` (metrics), `selection` (cross-validation),
`conversion` (ONNX, held against the original), `finalists` (refitting, checking, choosing), `report` and
`plot`.
"""
