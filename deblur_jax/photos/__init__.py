"""Photograph files: reading, restoring and writing them with their metadata."""
