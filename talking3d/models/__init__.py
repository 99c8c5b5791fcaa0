"""Audio-to-motion models."""
