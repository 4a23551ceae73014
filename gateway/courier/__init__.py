"""The courier: carries sealed things elsewhere."""
