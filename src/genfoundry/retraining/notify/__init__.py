"""Webhooks, mail and heartbeat.

Door: send, web.
"""
