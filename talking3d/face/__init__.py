"""Face templates and the motion that moves them."""
