"""The shell of refunds: ``intake`` takes them in, ``perform`` does their commands."""
