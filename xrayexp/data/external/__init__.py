"""Test sets of other hospitals: one small reader each, for files as they were downloaded."""
