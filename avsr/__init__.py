"""Audio-visual speech recognition: media, manifests, training and the recogniser (the ground floor of LipLoop)."""

__version__ = "0.1.0"
