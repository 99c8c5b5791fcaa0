"""Manifests, tokenizers, batches and noise."""
