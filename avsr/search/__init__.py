"""Searches for text in what a recogniser makes of an utterance."""
