"""Serving an exported segmentor over HTTP: a page to try it, and an interface for programs."""
