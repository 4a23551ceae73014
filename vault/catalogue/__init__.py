"""The catalogue: what is known about every document, and the transactions that change it."""
