"""The agents: one file per hop; each decodes, calls pure functions, stores and sends."""
