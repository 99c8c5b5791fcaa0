"""Triangles to pixels: lip crops and face views."""
