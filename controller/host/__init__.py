"""Devices as plans: ordered ordinary commands, and one small executor."""
