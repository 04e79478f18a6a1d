"""The domain, pure: values in, values out. Standard library only; no clock, no environment, no network."""
