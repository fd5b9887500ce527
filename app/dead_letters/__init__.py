"""Dead letters read back: which there are, which were retried, and sending them to their source again."""
