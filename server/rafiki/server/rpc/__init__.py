"""The API: messages in, messages out; errors become statuses."""
