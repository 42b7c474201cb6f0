"""Standard webhooks, pure: whether one is signed, what of it is kept, and what its event code means for the money."""
