"""Retention rules: what is kept how long, from when, and why. Pure; `RULES.md` is the format."""
