"""A long job as a row of segments: planned, computed one by one, kept in a folder, joined at the end."""
