"""Picture files beyond libvips: detecting damage and keeping all metadata."""
