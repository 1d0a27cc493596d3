"""Faust around the worker: whole fetches as messages."""
