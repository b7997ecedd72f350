"""From what a user says or draws to what is restored, and where."""
