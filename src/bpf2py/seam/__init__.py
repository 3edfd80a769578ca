"""The seam between the public API and its backends: what every backend provides, and what goes through."""
