"""The doors over HTTP: the API for callers, and the receiver for the platform's notifications."""
