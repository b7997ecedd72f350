"""Photographs as files: reading, restoring and writing them with all that is not pixels."""
