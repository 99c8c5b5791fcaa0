"""Speech-driven 3D faces: templates, corpora, renderer and the audio-to-motion models (stands on `avsr`)."""
