"""Sound, pictures, landmarks and lip crops, all on one clock (`timing.py`)."""
