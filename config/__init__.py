"""Configuration: the settings, the logs, and the reference that is generated from them.

Imports the core, and what the platform's protocol fixes for good.
"""
