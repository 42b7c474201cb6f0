"""What a payment costs: this product beside a naive Celery worker and DBOS. ``README.md`` explains every figure."""
