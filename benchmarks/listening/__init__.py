"""How well people understand a face in noise: clips for them to listen to, and the scores of what they wrote."""
