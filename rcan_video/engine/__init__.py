"""Engines: what computes a network on a device."""
