"""The same service as Celery's and FastAPI's own documentation teach it, tuned in good faith."""
