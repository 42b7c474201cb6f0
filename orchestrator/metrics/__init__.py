"""What Prometheus is told: `catalogue` names each metric, `collector` fills them in, `reference` documents them."""
