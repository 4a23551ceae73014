"""The jail a process locks itself into before it touches what a stranger sent."""
