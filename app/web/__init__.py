"""The web views: a page for people, JSON for programs, metrics and health for the machinery around."""
