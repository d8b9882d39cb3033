"""``sendmail``: what programs of this machine call to send mail. It submits over the local socket, and keeps nothing.

cron and PHP start it for every message, so it starts fast: it knows neither Twisted nor click, nor the settings.
"""
