"""Backup, restore, verify, reproduce.

Door: reproduce, restore, take, verify.
"""
