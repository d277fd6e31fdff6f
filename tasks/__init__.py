"""WHAT EACH STEP DOES: plain functions of the field, each step's Prefect task at its foot."""
