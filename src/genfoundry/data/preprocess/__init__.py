"""Stage preprocess: records become canonical, and each gets its split."""
