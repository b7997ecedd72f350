"""What libvips does not do with picture files: checking them, and keeping all of their metadata."""
