"""The sections of the settings, one module each: fields with bounds and defaults; the docstring below a field is its
meaning."""
