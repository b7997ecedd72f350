"""What somebody wants done to a picture, and where: words, regions, strokes, examples, choices.

numpy only: `photos.guided` restores by it.
"""
