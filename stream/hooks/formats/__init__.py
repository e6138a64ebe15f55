"""The wire formats: from decisions and alerts to requests, mails and lines. Pure."""
