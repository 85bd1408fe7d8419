"""The warm trainer: when it starts, its previews, and its process."""
