"""The mail door: an SMTP server that seals every message while it arrives."""
